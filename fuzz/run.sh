#!/bin/sh
# run.sh FOLDER SECONDS [TARGET...]: runs each fuzz target (all of them, unless some are named) for SECONDS, two at a
# time, and fails if one finds something. FOLDER holds what is built, the inputs found so far, which the next run begins
# with, the logs, and in FOLDER/found/TARGET inputs that broke a target. Works with a stable Rust; see docs/fuzzing.md.
set -eu
cd "$(dirname "$(realpath "$0")")"
mkdir -p "$1"
folder=$(realpath "$1") seconds=$2
shift 2

# libFuzzer, which the crate libfuzzer-sys brings along, is C++.
../tests/setup/install.sh g++
PATH=$folder/tools/bin:$PATH
if ! command -v cargo-fuzz > /dev/null; then
    echo "fuzz/run.sh: building cargo-fuzz"
    if ! cargo install --quiet --locked --root "$folder/tools" --target-dir "$folder/tools/build" cargo-fuzz@0.13.2; then
        echo "fuzz/run.sh: cannot build cargo-fuzz; nothing was fuzzed. As who runs this: cargo install cargo-fuzz" >&2
        exit 1
    fi
fi

targets=${*:-$(cargo fuzz list)}
cargo fmt --check
CARGO_TARGET_DIR=$folder/lint cargo clippy --quiet --all-targets -- -D warnings
# The address sanitizer would need a nightly Rust; the code that is tried has no unsafe line.
cargo fuzz build --sanitizer none --target-dir "$folder/build"
(cd .. && cargo run --quiet --package tests --example fuzz_seeds "$folder/seeds")
programs=$folder/build/$(rustc -vV | sed -n 's/^host: //p')/release

# shellcheck disable=SC2016,SC2086 # the inner shell's; a list of words
printf '%s\n' $targets | xargs -P 2 -I TARGET sh -c '
    target=$1 folder=$2 seconds=$3 program=$4/$1
    mkdir -p "$folder/inputs/$target" "$folder/seeds/$target" "$folder/found/$target" "$folder/logs"
    log=$folder/logs/$target
    if ! "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$folder/found/$target/" "$folder/inputs/$target" "$folder/seeds/$target" > "$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz/run.sh: $target failed; the input is in $folder/found/$target, the log is $log" >&2
        exit 1
    fi
    runs=$(sed -n "s/^stat::number_of_executed_units: *//p" "$log")
    [ "${runs:-0}" -gt 0 ] || { echo "fuzz/run.sh: $target did not run; see $log" >&2; exit 1; }
    echo "$target: $runs inputs in $seconds s"
' sh TARGET "$folder" "$seconds" "$programs"
