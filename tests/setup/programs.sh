#!/bin/sh
# programs.sh FOLDER: builds the broker, its bridge helper and the tests, and puts them into FOLDER as `broker`,
# `broker-bridge-helper` and `test-NAME`, to be run where there is no cargo, with the program `hostile` that some need.
set -eu
cd "$(dirname "$(realpath "$0")")/../.."
folder=$1

rm -rf "$folder"
mkdir -p "$folder"
built() {
    cargo "$@" --message-format json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
for program in broker broker-bridge-helper; do
    cp "$(built build --package broker --bin "$program")" "$folder/$program"
done
built test --package tests --tests --no-run | while read -r program; do
    name=$(basename "$program")
    cp "$program" "$folder/test-${name%-*}"
done
# As tests/src/hostile.rs builds it, who finds it beside the tests; in a test machine that takes minutes.
cc -static -O1 -pthread tests/hostile/*.c -o "$folder/hostile"
# What a debugger needs is nine tenths of them, and a test machine keeps them in its memory.
strip --strip-debug "$folder"/*
