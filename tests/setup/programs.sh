#!/bin/sh
# programs.sh FOLDER: builds the broker and its tests, and puts them into FOLDER as `broker` and `test-NAME`, to be
# run where there is no cargo.
set -eu
cd "$(dirname "$(realpath "$0")")/../.."
folder=$1

rm -rf "$folder"
mkdir -p "$folder"
built() {
    cargo "$@" --message-format json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
cp "$(built build --package broker --bin broker)" "$folder/broker"
built test --package tests --tests --no-run | while read -r program; do
    name=$(basename "$program")
    cp "$program" "$folder/test-${name%-*}"
done
# What a debugger needs is nine tenths of them, and a test machine keeps them in its memory.
strip --strip-debug "$folder"/*
