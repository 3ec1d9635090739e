// SPDX-License-Identifier: Apache-2.0

#include <stdlib.h>

#include "kvd/lessor.h"

#define NSEC 1000000000ull

struct lease_key {
	struct htable_node node;
	struct list list;
	struct lease *lease;
	uint32_t len;
	uint8_t data[];
};

static struct slice lease_key_slice(const struct lease_key *k)
{
	return slice_of(k->data, k->len);
}

void lessor_init(struct lessor *lessor, int64_t min_ttl)
{
	*lessor = (struct lessor){ .min_ttl = min_ttl };
}

/* --- the heap of expiries ------------------------------------------------- */

static void heap_set(struct lessor *lessor, size_t at, struct lease *lease)
{
	lessor->heap[at] = lease;
	lease->heap_at = at;
}

static void heap_up(struct lessor *lessor, size_t at)
{
	struct lease *lease = lessor->heap[at];

	while (at && lessor->heap[(at - 1) / 2]->expiry > lease->expiry) {
		heap_set(lessor, at, lessor->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(lessor, at, lease);
}

static void heap_down(struct lessor *lessor, size_t at)
{
	struct lease *lease = lessor->heap[at];
	size_t child;

	while ((child = 2 * at + 1) < lessor->heap_n) {
		if (child + 1 < lessor->heap_n &&
		    lessor->heap[child + 1]->expiry < lessor->heap[child]->expiry)
			child++;
		if (lessor->heap[child]->expiry >= lease->expiry)
			break;
		heap_set(lessor, at, lessor->heap[child]);
		at = child;
	}
	heap_set(lessor, at, lease);
}

static void heap_fix(struct lessor *lessor, struct lease *lease)
{
	BUG_ON(lessor->heap[lease->heap_at] != lease);
	heap_up(lessor, lease->heap_at);
	heap_down(lessor, lease->heap_at);
}

static int heap_add(struct lessor *lessor, struct lease *lease)
{
	struct lease **heap;
	size_t cap;

	if (lessor->heap_n == lessor->heap_cap) {
		cap = lessor->heap_cap ? lessor->heap_cap * 2 : 64;
		heap = realloc(lessor->heap, cap * sizeof(*heap));
		if (!heap)
			return -ENOMEM;
		lessor->heap = heap;
		lessor->heap_cap = cap;
	}
	heap_set(lessor, lessor->heap_n++, lease);
	heap_up(lessor, lease->heap_at);
	return 0;
}

static void heap_remove(struct lessor *lessor, struct lease *lease)
{
	struct lease *last = lessor->heap[--lessor->heap_n];

	if (last == lease)
		return;
	heap_set(lessor, lease->heap_at, last);
	heap_fix(lessor, last);
}

/* --- leases --------------------------------------------------------------- */

static uint64_t expiry_of(const struct lease *lease, uint64_t now, uint64_t extend)
{
	return now + (uint64_t)lease->ttl * NSEC + extend;
}

struct lease *lessor_find(const struct lessor *lessor, int64_t id)
{
	struct lease *lease;

	htable_for_hash(lease, &lessor->leases, hash_u64((uint64_t)id), struct lease, node)
		if (lease->id == id)
			return lease;
	return NULL;
}

int lessor_grant(struct lessor *lessor, int64_t id, int64_t ttl, uint64_t now,
		 struct lease **out)
{
	struct lease *lease;

	if (!id)
		return LESSOR_NO_LEASE;
	if (ttl > LEASE_TTL_MAX)
		return LESSOR_TTL_TOO_LARGE;
	if (lessor_find(lessor, id))
		return LESSOR_EXISTS;
	lease = calloc(1, sizeof(*lease));
	if (!lease)
		return -ENOMEM;
	lease->id = id;
	lease->ttl = MAX(ttl, lessor->min_ttl);
	lease->expiry = LEASE_FOREVER;
	list_init(&lease->keys);
	if (htable_insert(&lessor->leases, &lease->node, hash_u64((uint64_t)id))) {
		free(lease);
		return -ENOMEM;
	}
	if (lessor->primary) {
		lease->expiry = expiry_of(lease, now, 0);
		if (heap_add(lessor, lease)) {
			htable_delete(&lessor->leases, &lease->node);
			free(lease);
			return -ENOMEM;
		}
	}
	*out = lease;
	return 0;
}

static void lease_key_free(struct lessor *lessor, struct lease_key *k)
{
	htable_delete(&lessor->keys, &k->node);
	list_del(&k->list);
	k->lease->n_keys--;
	free(k);
}

void lessor_remove(struct lessor *lessor, struct lease *lease)
{
	while (!list_empty(&lease->keys))
		lease_key_free(lessor, list_first(&lease->keys, struct lease_key, list));
	if (lessor->primary)
		heap_remove(lessor, lease);
	htable_delete(&lessor->leases, &lease->node);
	free(lease);
}

static void each_lease(struct lessor *lessor, void (*fn)(struct lessor *, struct lease *, void *),
		       void *arg)
{
	struct htable_node *node, *next;

	for (size_t i = 0; lessor->leases.buckets && i <= lessor->leases.mask; i++) {
		for (node = lessor->leases.buckets[i]; node; node = next) {
			next = node->next;
			fn(lessor, container_of(node, struct lease, node), arg);
		}
	}
}

static void remove_one(struct lessor *lessor, struct lease *lease, void *arg)
{
	lessor_remove(lessor, lease);
}

void lessor_release(struct lessor *lessor)
{
	each_lease(lessor, remove_one, NULL);
	htable_release(&lessor->leases);
	htable_release(&lessor->keys);
	free(lessor->heap);
	*lessor = (struct lessor){ 0 };
}

struct promotion {
	uint64_t now, extend;
	int error;
};

static void promote_one(struct lessor *lessor, struct lease *lease, void *arg)
{
	struct promotion *p = arg;

	lease->revoking = false;
	lease->expiry = expiry_of(lease, p->now, p->extend);
	if (!p->error)
		p->error = heap_add(lessor, lease);
}

int lessor_promote(struct lessor *lessor, uint64_t now, uint64_t extend)
{
	struct promotion p = { now, extend, 0 };

	lessor->heap_n = 0;
	lessor->primary = true;
	each_lease(lessor, promote_one, &p);
	return p.error;
}

static void demote_one(struct lessor *lessor, struct lease *lease, void *arg)
{
	lease->expiry = LEASE_FOREVER;
}

void lessor_demote(struct lessor *lessor)
{
	lessor->primary = false;
	lessor->heap_n = 0;
	each_lease(lessor, demote_one, NULL);
}

void lessor_renew(struct lessor *lessor, struct lease *lease, uint64_t now)
{
	BUG_ON(!lessor->primary);
	lease->expiry = expiry_of(lease, now, 0);
	heap_fix(lessor, lease);
}

int64_t lease_remaining(const struct lease *lease, uint64_t now)
{
	if (lease->expiry == LEASE_FOREVER)
		return INT64_MAX;
	/* the expiry of one that is being revoked is when to try again */
	if (lease->revoking)
		return 0;
	return lease->expiry > now ? (int64_t)((lease->expiry - now) / NSEC) : 0;
}

struct lease *lessor_expired(struct lessor *lessor, uint64_t now, uint64_t retry)
{
	struct lease *lease;

	if (!lessor->primary || !lessor->heap_n || lessor->heap[0]->expiry > now)
		return NULL;
	lease = lessor->heap[0];
	lease->expiry = now + retry;
	lease->revoking = true;
	heap_fix(lessor, lease);
	return lease;
}

static int cmp_expiry(const void *a, const void *b)
{
	const struct lease *x = *(struct lease *const *)a, *y = *(struct lease *const *)b;

	if (x->expiry != y->expiry)
		return x->expiry < y->expiry ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

struct collection {
	struct lease **out;
	size_t n;
};

static void collect_one(struct lessor *lessor, struct lease *lease, void *arg)
{
	struct collection *c = arg;

	c->out[c->n++] = lease;
}

int lessor_all(const struct lessor *lessor, struct lease ***out, size_t *n)
{
	struct collection c = { calloc(lessor->leases.count + 1, sizeof(*c.out)), 0 };

	if (!c.out)
		return -ENOMEM;
	each_lease((struct lessor *)lessor, collect_one, &c);
	qsort(c.out, c.n, sizeof(*c.out), cmp_expiry);
	*out = c.out;
	*n = c.n;
	return 0;
}

/* --- the keys of a lease -------------------------------------------------- */

static struct lease_key *find_key(const struct lessor *lessor, struct slice key, uint64_t hash)
{
	struct lease_key *k;

	htable_for_hash(k, &lessor->keys, hash, struct lease_key, node)
		if (slice_eq(lease_key_slice(k), key))
			return k;
	return NULL;
}

int64_t lessor_lease_of(const struct lessor *lessor, struct slice key)
{
	struct lease_key *k;

	if (!lessor->keys.count)
		return 0;
	k = find_key(lessor, key, hash_bytes(key));
	return k ? k->lease->id : 0;
}

void lessor_detach(struct lessor *lessor, struct slice key)
{
	struct lease_key *k;

	if (!lessor->keys.count)
		return;
	k = find_key(lessor, key, hash_bytes(key));
	if (k)
		lease_key_free(lessor, k);
}

int lessor_attach(struct lessor *lessor, struct lease *lease, struct slice key)
{
	uint64_t hash = hash_bytes(key);
	struct lease_key *k = find_key(lessor, key, hash);

	if (k && k->lease == lease)
		return 0;
	if (k)
		lease_key_free(lessor, k);
	k = malloc(sizeof(*k) + key.len);
	if (!k)
		return -ENOMEM;
	k->lease = lease;
	k->len = (uint32_t)key.len;
	memcpy(k->data, key.data, key.len);
	if (htable_insert(&lessor->keys, &k->node, hash)) {
		free(k);
		return -ENOMEM;
	}
	list_add_tail(&lease->keys, &k->list);
	lease->n_keys++;
	return 0;
}

static int cmp_slice(const void *a, const void *b)
{
	return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

void lessor_keys(const struct lease *lease, struct slice *out)
{
	struct lease_key *k;
	size_t n = 0;

	list_for_each(k, &lease->keys, list)
		out[n++] = lease_key_slice(k);
	BUG_ON(n != lease->n_keys);
	qsort(out, n, sizeof(*out), cmp_slice);
}
