// SPDX-License-Identifier: Apache-2.0
/*
 * Linked into the programs of "make coverage" with --wrap=_exit: a child that ends so
 * writes its counters first, as one that ends by exit does.
 */
void __gcov_dump(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

void __wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}
