#!/usr/bin/env bash
# Install this package, with the CPU build of torch, into an environment of its own, for the later steps of a job.
#
# ENVIRONMENT   folder to make
# PYTHON        version of Python; 3.11 by default
# VERSIONS      exact pins, separated by commas or spaces; constraints.txt gives way to them
# REQUIREMENTS  what the adapters need to be imported, as pip takes it, separated by spaces
set -euo pipefail
ci=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
versions=${VERSIONS:-}
read -ra pins <<<"${versions//,/ }"
read -ra more <<<"${REQUIREMENTS:-}"

uv venv --quiet --clear --python "${PYTHON:-3.11}" "$ENVIRONMENT"
export VIRTUAL_ENV=$ENVIRONMENT
# A build for GPUs is gigabytes of which nothing is used here.
if [ -z "${UV_FIND_LINKS:-}" ]; then export UV_TORCH_BACKEND=cpu; fi

# What is pinned is not constrained as well; transformers decides on its tokenizers and on the hub's client.
pinned='^$'
for pin in "${pins[@]}"; do
  pinned+="|^${pin%%==*}=="
  if [[ $pin == transformers==* ]]; then pinned+='|^tokenizers==|^huggingface-hub=='; fi
done
constraints=$ENVIRONMENT/constraints.txt
grep -vE "$pinned" "$ci/constraints.txt" >"$constraints"

uv pip install --quiet -c "$constraints" torch "${pins[@]}"
uv pip install --quiet -c "$constraints" "$ci/.." "${pins[@]}" "${more[@]}"
if [ -n "${GITHUB_PATH:-}" ]; then echo "$ENVIRONMENT/bin" >>"$GITHUB_PATH"; fi
