/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C, which the log's records and the hashes of the store are made with. */
#ifndef KVD_CRC32C_H
#define KVD_CRC32C_H

#include <isa-l/crc.h>
#include <limits.h>

#include "include/bug.h"
#include "include/slice.h"

/* CRC-32C of what @crc is of, followed by @s: Go's crc32.Update(), which inverts before
 * and after; ISA-L's function does neither. */
static inline uint32_t crc32c(uint32_t crc, struct slice s)
{
	BUG_ON(s.len > INT_MAX);
	if (!s.len)
		return crc;
	return ~crc32_iscsi((unsigned char *)s.data, (int)s.len, ~crc);
}

#endif
