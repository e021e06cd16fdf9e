#!/bin/sh
# sh csrc/wasm/build.sh powfast.wasm: with clang, lld and the C library of WASI, of which memcpy is used.
set -eu
csrc=$(dirname "$0")/..
exec "${CC:-clang}" --target=wasm32-wasi --sysroot="${SYSROOT:-/usr}" -O3 -std=c11 -msimd128 -mbulk-memory \
    -Wall -Wextra -Werror -pedantic -I"$csrc/include" \
    "$csrc"/wasm/exports.c "$csrc"/*.c "$csrc"/kernels/*.c -nostartfiles -Wl,--no-entry,--strip-all -o "$1"
