/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assertions and small macros.
 *
 * BUG_ON(cond) ends the process when @cond holds. It states a fact about this
 * program, so it stays on in release builds, and is never used on bytes that
 * came from a disk or a socket.
 */
#ifndef BUG_H
#define BUG_H

#include <stddef.h>

#define BUG_ON(cond)						\
	do {							\
		if (__builtin_expect(!!(cond), 0))		\
			__builtin_trap();			\
	} while (0)

#define BUG() BUG_ON(1)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

/* <sys/param.h>, which <uv.h> brings in, has a MIN and a MAX that evaluate twice. */
#undef MIN
#undef MAX
#define MIN(a, b) LESSER_(a, b, __COUNTER__)
#define MAX(a, b) GREATER_(a, b, __COUNTER__)
/* The counter gives each use its own names, so that uses may nest. */
#define LESSER_(a, b, n) LESSER__(a, b, n)
#define GREATER_(a, b, n) GREATER__(a, b, n)
#define LESSER__(a, b, n) ({ __auto_type a_##n = (a); __auto_type b_##n = (b);	\
	a_##n < b_##n ? a_##n : b_##n; })
#define GREATER__(a, b, n) ({ __auto_type a_##n = (a); __auto_type b_##n = (b);	\
	a_##n > b_##n ? a_##n : b_##n; })

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#define __must_check	__attribute__((warn_unused_result))
#define __printf(f, a)	__attribute__((format(printf, f, a)))

#endif
