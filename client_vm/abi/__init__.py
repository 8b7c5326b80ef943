"""The Linux ABI of x86-64 and ARM64: numbers, flags, errno and struct layouts, generated from kernel headers.

common   constants and structs that both architectures have alike, errno and signal names
x86_64   syscall numbers of x86-64, and whatever differs (O_DIRECTORY, struct stat) or it alone has
arm64    the same of ARM64
layout   what a struct is (hand-written)
catalog  which constants and structs are taken: names only (hand-written)
generate writes common, x86_64 and arm64 (`python -m client_vm.abi.generate`; --check: are they stale?)

A constant or struct stands either in common, or in the architectures' modules: in both if it differs.
"""
