package main

// int80 makes a system call by the convention of 32-bit programs.
func int80(number, a, b, c uintptr) uintptr
