// SPDX-License-Identifier: Apache-2.0
/*
 * Current values in memory. What is not yet stored cannot leave; beyond that, the
 * limit holds. The CLOCK algorithm needs one bit a key and no list.
 */
#include "libmvcc/mvcc_i.h"

/* A value in the cache costs its slot too. */
size_t value_cost(const struct blob *value)
{
	return blob_cost(value) + sizeof(struct key *);
}

static int cache_add(struct mvcc *store, struct key *key, struct blob *value)
{
	struct cache *c = &store->cache;
	int r = vec_grow(&c->slots, &c->cap, c->n);

	BUG_ON(c->n >= UINT32_MAX);
	if (r)
		return r;
	key->value = blob_get(value);
	key->hot = 0;
	key->slot = (uint32_t)c->n;
	c->slots[c->n++] = key;
	c->tried = 0;
	c->bytes += value_cost(value);
	return 0;
}

/* A key that has a value already keeps its slot. */
int cache_set(struct mvcc *store, struct key *key, struct blob *value)
{
	struct blob *old = key->value;

	if (!old)
		return cache_add(store, key, value);
	store->cache.bytes += value_cost(value) - value_cost(old);
	key->value = blob_get(value);
	blob_put(old);
	return 0;
}

void cache_drop(struct mvcc *store, struct key *key)
{
	struct cache *c = &store->cache;

	if (!key->value)
		return;
	BUG_ON(c->slots[key->slot] != key);
	c->bytes -= value_cost(key->value);
	c->slots[key->slot] = c->slots[--c->n];
	c->slots[key->slot]->slot = key->slot;
	blob_put(key->value);
	key->value = NULL;
}

static size_t pinned_bytes(const struct mvcc *store)
{
	return store->pending->bytes + (store->out ? store->out->bytes : 0);
}

/* What the hand comes to: the key, and then its value, both of which are far away. */
static void fetch_slots(const struct cache *c)
{
	if (c->hand + 2 * AHEAD < c->n)
		key_fetch(c->slots[c->hand + 2 * AHEAD]);
	if (c->hand + AHEAD < c->n)
		__builtin_prefetch(c->slots[c->hand + AHEAD]->value, 1);
}

/*
 * Looks at @n keys. The hand goes round twice at most without a value that leaves: once to
 * take the marks away, once to take the values; then all that is left is not yet stored.
 * Nothing leaves while a transaction is open: what it has made sure to be in memory is
 * still there when it writes. True while there is more to do.
 */
bool cache_trim(struct mvcc *store, size_t n)
{
	struct cache *c = &store->cache;
	size_t limit = c->limit + pinned_bytes(store);

	if (store->txn.open)
		return false;
	for (; n && c->bytes > limit && c->tried < 2 * c->n; n--) {
		struct key *key;

		if (c->hand >= c->n)
			c->hand = 0;
		fetch_slots(c);
		key = c->slots[c->hand];
		c->tried++;
		if (key->mod > store->stored || key->hot) {
			key->hot = 0;
		} else {
			cache_drop(store, key);
			c->tried = 0;
		}
		/* what takes the place of one that goes is the newest: it has its time */
		c->hand++;
	}
	return c->bytes > limit && c->tried < 2 * c->n;
}
