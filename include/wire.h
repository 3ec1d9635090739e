/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protobuf wire format, as far as encoding and scanning by hand needs it:
 * varints, tags and length-delimited fields.
 * Source: protobuf.dev/programming-guides/encoding.
 *
 * The put functions write at @p and return the byte after; the caller has made
 * room (wire_*_size says how much). The proto3 twins (wire_put_u64_field and so
 * on) write nothing for zero, as proto3 does.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>

#include "slice.h"

enum wire_type { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

#define WIRE_VARINT_MAX 10

static inline size_t wire_varint_size(uint64_t v)
{
	/* 7 bits a byte; zero takes one */
	return (size_t)(63 - __builtin_clzll(v | 1)) / 7 + 1;
}

static inline uint8_t *wire_put_varint(uint8_t *p, uint64_t v)
{
	while (v >= 0x80) {
		*p++ = (uint8_t)v | 0x80;
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

static inline uint8_t *wire_put_tag(uint8_t *p, uint32_t field, enum wire_type type)
{
	return wire_put_varint(p, (uint64_t)field << 3 | type);
}

static inline size_t wire_tag_size(uint32_t field)
{
	return wire_varint_size((uint64_t)field << 3);
}

static inline size_t wire_u64_field_size(uint32_t field, uint64_t v)
{
	return v ? wire_tag_size(field) + wire_varint_size(v) : 0;
}

static inline uint8_t *wire_put_u64_field(uint8_t *p, uint32_t field, uint64_t v)
{
	if (!v)
		return p;
	return wire_put_varint(wire_put_tag(p, field, WIRE_VARINT), v);
}

/* The tag and the length of a length-delimited field; @len bytes follow. */
static inline size_t wire_len_field_size(uint32_t field, size_t len)
{
	return wire_tag_size(field) + wire_varint_size(len);
}

static inline uint8_t *wire_put_len_field(uint8_t *p, uint32_t field, size_t len)
{
	return wire_put_varint(wire_put_tag(p, field, WIRE_LEN), len);
}

static inline size_t wire_bytes_field_size(uint32_t field, struct slice s)
{
	return s.len ? wire_len_field_size(field, s.len) + s.len : 0;
}

static inline uint8_t *wire_put_bytes_field(uint8_t *p, uint32_t field, struct slice s)
{
	if (!s.len)
		return p;
	p = wire_put_len_field(p, field, s.len);
	memcpy(p, s.data, s.len);
	return p + s.len;
}

/* One field as wire_next() found it: @value for varints, @bytes for the rest. */
struct wire_field {
	uint32_t number;
	enum wire_type type;
	uint64_t value;
	struct slice bytes;
};

static inline bool wire_get_varint(struct slice *s, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < s->len && i < WIRE_VARINT_MAX; i++) {
		v |= (uint64_t)(s->data[i] & 0x7f) << (7 * i);
		if (s->data[i] & 0x80)
			continue;
		s->data += i + 1;
		s->len -= i + 1;
		*out = v;
		return true;
	}
	return false;
}

static inline bool wire_take(struct slice *s, uint64_t n, struct slice *out)
{
	if (n > s->len)
		return false;
	*out = slice_of(s->data, n);
	s->data += n;
	s->len -= n;
	return true;
}

/*
 * Takes the next field off @s. Returns 1 and fills @f, 0 at the end, -1 where the
 * bytes are not a protobuf message. Groups (types 3 and 4) are refused.
 */
static inline int wire_next(struct slice *s, struct wire_field *f)
{
	uint64_t tag, n;

	if (!s->len)
		return 0;
	if (!wire_get_varint(s, &tag) || tag >> 3 == 0 || tag >> 3 > 536870911)
		return -1;
	f->number = (uint32_t)(tag >> 3);
	f->type = (enum wire_type)(tag & 7);
	f->value = 0;
	f->bytes = slice_of(NULL, 0);
	switch (tag & 7) {
	case WIRE_VARINT:
		return wire_get_varint(s, &f->value) ? 1 : -1;
	case WIRE_LEN:
		return wire_get_varint(s, &n) && wire_take(s, n, &f->bytes) ? 1 : -1;
	case WIRE_I64:
		return wire_take(s, 8, &f->bytes) ? 1 : -1;
	case WIRE_I32:
		return wire_take(s, 4, &f->bytes) ? 1 : -1;
	default:
		return -1;
	}
}

#endif
