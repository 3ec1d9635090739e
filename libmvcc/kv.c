// SPDX-License-Identifier: Apache-2.0
/*
 * mvccpb.KeyValue, encoded and taken apart by hand: it is the hottest message
 * there is and has six fields. Fields in order of number, zeros left out, as
 * etcd's own encoder writes them: HashKV is computed over these bytes.
 */
#include "include/wire.h"
#include "libmvcc/mvcc_i.h"

enum {
	KV_KEY = 1, KV_CREATE_REVISION, KV_MOD_REVISION, KV_VERSION, KV_VALUE, KV_LEASE,
};

static size_t kv_size(const struct mvcc_kv *kv)
{
	return wire_bytes_field_size(KV_KEY, kv->key) +
	       wire_u64_field_size(KV_CREATE_REVISION, (uint64_t)kv->create_revision) +
	       wire_u64_field_size(KV_MOD_REVISION, (uint64_t)kv->mod_revision) +
	       wire_u64_field_size(KV_VERSION, (uint64_t)kv->version) +
	       wire_bytes_field_size(KV_VALUE, kv->value) +
	       wire_u64_field_size(KV_LEASE, (uint64_t)kv->lease);
}

struct blob *kv_room(const struct mvcc_kv *kv)
{
	return blob_new(kv_size(kv));
}

struct blob *kv_encode_into(struct blob **room, const struct mvcc_kv *kv)
{
	size_t size = kv_size(kv);
	struct blob *b = *room;
	uint8_t *p;

	*room = NULL;
	if (b && b->len < size) {
		blob_put(b);
		b = blob_new(size);
	}
	if (!b)
		return NULL;
	b->len = (uint32_t)size;
	p = wire_put_bytes_field(b->data, KV_KEY, kv->key);
	p = wire_put_u64_field(p, KV_CREATE_REVISION, (uint64_t)kv->create_revision);
	p = wire_put_u64_field(p, KV_MOD_REVISION, (uint64_t)kv->mod_revision);
	p = wire_put_u64_field(p, KV_VERSION, (uint64_t)kv->version);
	p = wire_put_bytes_field(p, KV_VALUE, kv->value);
	p = wire_put_u64_field(p, KV_LEASE, (uint64_t)kv->lease);
	BUG_ON(p != b->data + size);
	return b;
}

struct blob *kv_encode(const struct mvcc_kv *kv)
{
	struct blob *room = kv_room(kv);

	return kv_encode_into(&room, kv);
}

static int decode_field(const struct wire_field *f, struct mvcc_kv *out)
{
	bool bytes = f->number == KV_KEY || f->number == KV_VALUE;

	if (f->number > KV_LEASE)
		return 0;
	if (f->type != (bytes ? WIRE_LEN : WIRE_VARINT))
		return -EBADMSG;
	switch (f->number) {
	case KV_KEY:
		out->key = f->bytes;
		break;
	case KV_CREATE_REVISION:
		out->create_revision = (int64_t)f->value;
		break;
	case KV_MOD_REVISION:
		out->mod_revision = (int64_t)f->value;
		break;
	case KV_VERSION:
		out->version = (int64_t)f->value;
		break;
	case KV_VALUE:
		out->value = f->bytes;
		break;
	case KV_LEASE:
		out->lease = (int64_t)f->value;
		break;
	}
	return 0;
}

int mvcc_kv_decode(struct slice encoded, struct mvcc_kv *out)
{
	struct mvcc_kv kv = { 0 };
	struct wire_field f;
	int r;

	while ((r = wire_next(&encoded, &f)) > 0) {
		r = decode_field(&f, &kv);
		if (r)
			return r;
	}
	if (r < 0)
		return -EBADMSG;
	*out = kv;
	return 0;
}

struct slice kv_key(const struct blob *kv)
{
	struct slice s = blob_slice(kv);
	struct wire_field f;

	if (wire_next(&s, &f) <= 0 || f.number != KV_KEY)
		return slice_of(NULL, 0);
	return f.bytes;
}

/* --- ranges of keys, as the API writes them ------------------------------- */

bool range_is_key(struct mvcc_key_range range)
{
	return !range.end.len;
}

bool range_is_open(struct mvcc_key_range range)
{
	return range.end.len == 1 && !range.end.data[0];
}

bool range_has(struct mvcc_key_range range, struct slice key)
{
	if (range_is_key(range))
		return slice_eq(range.key, key);
	return slice_cmp(range.key, key) <= 0 &&
	       (range_is_open(range) || slice_cmp(key, range.end) < 0);
}
