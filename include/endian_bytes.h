/* SPDX-License-Identifier: Apache-2.0 */
/* Integers of fixed width and byte order, at any alignment. */
#ifndef ENDIAN_BYTES_H
#define ENDIAN_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define DEFINE_ENDIAN(name, type, to, from)				\
static inline void put_##name(void *p, type v)				\
{									\
	v = to(v);							\
	memcpy(p, &v, sizeof(v));					\
}									\
static inline type get_##name(const void *p)				\
{									\
	type v;								\
									\
	memcpy(&v, p, sizeof(v));					\
	return from(v);							\
}

DEFINE_ENDIAN(be32, uint32_t, htobe32, be32toh)
DEFINE_ENDIAN(be64, uint64_t, htobe64, be64toh)
DEFINE_ENDIAN(le32, uint32_t, htole32, le32toh)
DEFINE_ENDIAN(le64, uint64_t, htole64, le64toh)

#endif
