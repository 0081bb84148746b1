"""The requirement families, one module each; every module is a pytest plugin that can be switched off."""
