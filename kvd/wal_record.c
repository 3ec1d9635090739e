/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of the write-ahead log, byte by byte:
 *
 *	frame	length field (8 bytes, little-endian), record, padding to 8 bytes
 *	length	bits 0..55 the record's length; 56..58 the padding's, and 63 set, where
 *		there is padding
 *	record	walpb.Record: 08 type, 10 crc, then (unless it is empty) 1a length data
 *	entry	raftpb.Entry: 08 type, 10 term, 18 index, then (unless it is empty) 22
 *		length data
 *	state	raftpb.HardState: 08 term, 10 vote, 18 commit
 *
 * Reading is strict: what was not written like this is refused, because the crc is
 * of a record's data alone and says nothing about its type, its length or its padding.
 */
#include "kvd/wal_i.h"

#include <errno.h>
#include <stdlib.h>

#include "include/endian_bytes.h"
#include "include/wire.h"
#include "kvd/crc32c.h"

/* --- writing -------------------------------------------------------------- */

static int reserve(struct wal_buffer *b, size_t n)
{
	size_t size = b->size ? b->size : 4096;
	uint8_t *data;

	while (size - b->len < n)
		size *= 2;
	if (size == b->size)
		return 0;
	data = realloc(b->data, size);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->size = size;
	return 0;
}

/* A frame whose data are @head and then @tail, one after the other. */
static int put_frame(struct wal_buffer *b, enum wal_record_type type, struct slice head,
		     struct slice tail)
{
	size_t len = head.len + tail.len, n, padding;
	uint8_t *p;
	int r = reserve(b, len + WAL_RECORD_OVERHEAD);

	if (r < 0)
		return r;
	b->crc = crc32c(crc32c(b->crc, head), tail);
	p = b->data + b->len + WAL_FRAME_BYTES;
	p = wire_put_varint(wire_put_tag(p, 1, WIRE_VARINT), type);
	p = wire_put_varint(wire_put_tag(p, 2, WIRE_VARINT), b->crc);
	if (len)
		p = wire_put_len_field(p, 3, len);
	if (head.len)
		memcpy(p, head.data, head.len);
	p += head.len;
	if (tail.len)
		memcpy(p, tail.data, tail.len);
	p += tail.len;
	n = (size_t)(p - (b->data + b->len + WAL_FRAME_BYTES));
	padding = -n & 7;
	memset(p, 0, padding);
	put_le64(b->data + b->len, padding ? (0x80 | (uint64_t)padding) << 56 | n : n);
	b->len += WAL_FRAME_BYTES + n + padding;
	BUG_ON(b->len > b->size);
	return 0;
}

int wal_put_zeroes(struct wal_buffer *b, size_t n)
{
	int r = reserve(b, n);

	if (r < 0)
		return r;
	memset(b->data + b->len, 0, n);
	b->len += n;
	return 0;
}

int wal_put_record(struct wal_buffer *b, enum wal_record_type type, struct slice data)
{
	return put_frame(b, type, data, slice_of(NULL, 0));
}

int wal_put_entry(struct wal_buffer *b, const struct raft_entry *entry)
{
	struct slice payload = entry->payload ? blob_slice(entry->payload) : slice_of(NULL, 0);
	uint8_t head[4 * (1 + WIRE_VARINT_MAX)], *p = head;

	p = wire_put_varint(wire_put_tag(p, 1, WIRE_VARINT), entry->type);
	p = wire_put_varint(wire_put_tag(p, 2, WIRE_VARINT), entry->term);
	p = wire_put_varint(wire_put_tag(p, 3, WIRE_VARINT), entry->index);
	if (payload.len)
		p = wire_put_len_field(p, 4, payload.len);
	return put_frame(b, WAL_ENTRY, slice_of(head, (size_t)(p - head)), payload);
}

int wal_put_hard_state(struct wal_buffer *b, const struct raft_hard_state *state)
{
	uint8_t data[3 * (1 + WIRE_VARINT_MAX)], *p = data;

	p = wire_put_varint(wire_put_tag(p, 1, WIRE_VARINT), state->term);
	p = wire_put_varint(wire_put_tag(p, 2, WIRE_VARINT), state->vote);
	p = wire_put_varint(wire_put_tag(p, 3, WIRE_VARINT), state->commit);
	return wal_put_record(b, WAL_HARD_STATE, slice_of(data, (size_t)(p - data)));
}

/* --- reading -------------------------------------------------------------- */

/*
 * All four messages have some varints, numbered from 1, and then at most one field of
 * bytes. Each may be left out (etcd leaves out what raft did not set, we write them
 * all), but none may stand twice, or out of order, or be unknown.
 */
struct fields {
	uint64_t v[3];			/* field n in v[n - 1]; 0 where it is left out */
	bool has_bytes;
	struct slice bytes;
};

static bool get_fields(struct slice s, size_t n_varints, struct fields *out)
{
	uint32_t last = 0;
	struct wire_field f;
	int r;

	*out = (struct fields){ 0 };
	while ((r = wire_next(&s, &f)) == 1) {
		if (f.number <= last || f.number > n_varints + 1)
			return false;
		last = f.number;
		if (f.type != (f.number <= n_varints ? WIRE_VARINT : WIRE_LEN))
			return false;
		if (f.type == WIRE_VARINT) {
			out->v[f.number - 1] = f.value;
		} else {
			out->has_bytes = true;
			out->bytes = f.bytes;
		}
	}
	return r == 0;
}

static bool get_record(struct slice s, struct wal_record *record)
{
	struct fields f;
	size_t len;

	if (!get_fields(s, 2, &f) || f.v[0] < WAL_METADATA || f.v[0] > WAL_SNAPSHOT ||
	    f.v[1] > UINT32_MAX)
		return false;
	record->type = (enum wal_record_type)f.v[0];
	record->crc = (uint32_t)f.v[1];
	record->data = f.bytes;
	/* both varints are there, and none is longer than it must be */
	len = 2 + 1 + wire_varint_size(record->crc);
	if (f.has_bytes)
		len += wire_len_field_size(3, f.bytes.len) + f.bytes.len;
	return s.len == len;
}

static bool all_zero(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.data[i])
			return false;
	return true;
}

enum wal_frame wal_get_frame(struct slice s, struct wal_record *record, size_t *len)
{
	uint64_t field, n, padding;

	if (!s.len)
		return WAL_FRAME_END;
	if (s.len < WAL_FRAME_BYTES)
		return all_zero(s) ? WAL_FRAME_END : WAL_FRAME_PAST_END;
	field = get_le64(s.data);
	if (!field)
		return WAL_FRAME_END;
	n = field & WAL_LENGTH_MASK;
	padding = -n & 7;
	if (n + padding > s.len - WAL_FRAME_BYTES)
		return WAL_FRAME_PAST_END;
	*len = WAL_FRAME_BYTES + n + padding;
	if (field >> 56 != (padding ? 0x80 | padding : 0) ||
	    !all_zero(slice_of(s.data + WAL_FRAME_BYTES + n, padding)) ||
	    !get_record(slice_of(s.data + WAL_FRAME_BYTES, n), record))
		return WAL_FRAME_BAD;
	return WAL_FRAME_WHOLE;
}

bool wal_get_entry(struct slice data, struct raft_entry *entry, struct slice *payload)
{
	struct fields f;

	if (!get_fields(data, 3, &f) || f.v[0] > RAFT_ENTRY_CONF_CHANGE_V2 || !f.v[1] || !f.v[2])
		return false;
	*entry = (struct raft_entry){
		.type = (enum raft_entry_type)f.v[0], .term = f.v[1], .index = f.v[2],
	};
	*payload = f.bytes;
	return true;
}

bool wal_get_hard_state(struct slice data, struct raft_hard_state *state)
{
	struct fields f;

	if (!get_fields(data, 3, &f) || f.has_bytes || !f.v[0])
		return false;
	*state = (struct raft_hard_state){ .term = f.v[0], .vote = f.v[1], .commit = f.v[2] };
	return true;
}

bool wal_get_snapshot(struct slice data, uint64_t *index, uint64_t *term)
{
	struct slice conf_state;
	struct wire_field field;
	struct fields f;
	int r;

	/* an index of 0 is written too */
	if (!data.len || !get_fields(data, 2, &f))
		return false;
	for (conf_state = f.bytes; (r = wire_next(&conf_state, &field)) == 1;)
		;
	*index = f.v[0];
	*term = f.v[1];
	return r == 0;
}
