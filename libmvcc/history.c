// SPDX-License-Identifier: Apache-2.0
/*
 * The revisions of one key. The newest is in the key itself, so that a key that
 * was written once needs no other allocation; those before it are an ascending
 * array of 16 bytes each.
 *
 * A generation is the life of a key from its creation to its tombstone. The create
 * revision and the version of an old revision are not stored: they follow from the
 * place of its generation's first revision, but for the one generation whose head
 * is compacted, of which the history keeps them.
 */
#include "libmvcc/mvcc_i.h"

#define HISTORY_MIN 2

struct key *key_new(struct slice name)
{
	struct key *key;

	BUG_ON(name.len >= 1u << 31);
	key = calloc(1, MAX(offsetof(struct key, bytes) + name.len, sizeof(struct key)));
	if (!key)
		return NULL;
	key->len = (uint32_t)name.len & 0x7fffffff;
	if (name.len)
		memcpy(key->bytes, name.data, name.len);
	return key;
}

void key_free(struct key *key)
{
	if (!key)
		return;
	free(key->history);
	blob_put(key->value);
	free(key);
}

static bool is_tombstone(uint32_t sub)
{
	return sub & SUB_TOMBSTONE;
}

/* Room for one more revision in the history of @key. */
static struct history *history_reserve(struct key *key)
{
	struct history *h = key->history;
	uint32_t cap;

	if (h && h->n < h->cap)
		return h;
	cap = h ? h->cap * 2 : HISTORY_MIN;
	h = realloc(h, sizeof(*h) + (size_t)cap * sizeof(h->revs[0]));
	if (!h)
		return NULL;
	if (!key->history)
		*h = (struct history){ 0 };
	h->cap = cap;
	key->history = h;
	return h;
}

/* Appends the newest revision of @key to its history. */
static int history_push(struct key *key)
{
	struct history *h = history_reserve(key);
	const struct old_rev *last;
	struct old_rev *r;

	if (!h)
		return -ENOMEM;
	last = h->n ? &h->revs[h->n - 1] : NULL;
	if (!last) {
		h->create = key->create;
		h->version = key->version;
	}
	if (h->first_len == h->n && (!last || !is_tombstone(last->sub)))
		h->first_len++;
	r = &h->revs[h->n];
	r->main = key->mod;
	r->sub = key->sub;
	r->gen = last && !is_tombstone(last->sub) ? last->gen : h->first_no + h->n;
	h->n++;
	return 0;
}

int key_push(struct key *key, int64_t main, uint32_t sub, int64_t create, int64_t version)
{
	int r;

	BUG_ON(main < key->mod || is_tombstone(sub) != !create);
	if (key->mod) {
		r = history_push(key);
		if (r)
			return r;
	}
	key->mod = main;
	key->sub = sub;
	key->create = create;
	key->version = version;
	return 0;
}

/* The create revision and the version of the i-th old revision, no tombstone. */
static void old_generation(const struct history *h, uint32_t i, struct found *out)
{
	uint32_t head = h->revs[i].gen - h->first_no;

	if (i < h->first_len) {
		out->create = h->create;
		out->version = h->version + i;
		return;
	}
	BUG_ON(head > i);
	out->create = h->revs[head].main;
	out->version = (int64_t)(i - head) + 1;
}

/* How many old revisions have a main below @revision. */
static uint32_t history_below(const struct history *h, int64_t revision)
{
	uint32_t lo = 0, hi = h ? h->n : 0;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (h->revs[mid].main < revision)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool key_at(struct key *key, int64_t revision, struct found *out)
{
	const struct history *h = key->history;
	uint32_t n;

	if (key->mod <= revision) {
		*out = (struct found){ key, key->mod, key->create, key->version, key->sub };
		return key_live(key);
	}
	n = history_below(h, revision + 1);
	if (!n || is_tombstone(h->revs[n - 1].sub))
		return false;
	out->key = key;
	out->mod = h->revs[n - 1].main;
	out->sub = h->revs[n - 1].sub;
	old_generation(h, n - 1, out);
	return true;
}

size_t key_revs(const struct key *key)
{
	return (key->history ? key->history->n : 0) + (size_t)1;
}

struct batch_drop key_rev(const struct key *key, size_t i)
{
	const struct history *h = key->history;

	if (h && i < h->n)
		return (struct batch_drop){ h->revs[i].main, h->revs[i].sub };
	return (struct batch_drop){ key->mod, key->sub };
}

size_t key_since(const struct key *key, int64_t revision)
{
	uint32_t n = history_below(key->history, revision);

	return n + (size_t)(n + (size_t)1 == key_revs(key) && key->mod < revision);
}

/*
 * As etcd: of the generation that @revision falls in, the newest revision not above
 * it stays, and all before it go. A tombstone below @revision ends a generation
 * that @revision does not fall in any more; one at @revision itself still belongs,
 * so that a watch from exactly there is told.
 */
size_t key_superseded(const struct key *key, int64_t revision)
{
	size_t above = key_since(key, revision + 1), i, at;

	if (!above)
		return 0;
	at = key_since(key, revision);
	for (i = at; i < above; i++)
		if (is_tombstone(key_rev(key, i).sub))
			return i;
	if (is_tombstone(key_rev(key, above - 1).sub))
		return above;
	return above - 1;
}

void key_drop(struct key *key, size_t n)
{
	struct history *h = key->history;
	struct found head;
	bool dead;

	BUG_ON(n >= key_revs(key));
	if (!n)
		return;
	if (n == h->n) {
		key->history = NULL;
		free(h);
		return;
	}
	dead = is_tombstone(h->revs[n].sub);
	old_generation(h, (uint32_t)n, &head);
	h->create = dead ? 0 : head.create;
	h->version = dead ? 0 : head.version;
	h->n -= (uint32_t)n;
	h->first_no += (uint32_t)n;
	memmove(h->revs, h->revs + n, h->n * sizeof(h->revs[0]));
	h->first_len = 1;
	while (h->first_len < h->n && !is_tombstone(h->revs[h->first_len - 1].sub))
		h->first_len++;
}
