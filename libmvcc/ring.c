// SPDX-License-Identifier: Apache-2.0
/*
 * The most recent events, for watchers that keep up. The ring grows up to its
 * limits of events and bytes and then forgets the oldest; who has not seen those
 * reads history.
 */
#include "libmvcc/mvcc_i.h"

#define RING_MIN 64

static size_t event_cost(const struct ring_event *e)
{
	return blob_cost(e->kv) + (e->prev ? blob_cost(e->prev) : 0);
}

struct ring_event *ring_at(const struct ring *ring, uint64_t pos)
{
	BUG_ON(pos < ring->head || pos >= ring->tail);
	return &ring->events[pos & (ring->cap - 1)];
}

static void ring_forget(struct ring *ring)
{
	struct ring_event *e = ring_at(ring, ring->head);

	if (ring->head + AHEAD < ring->tail)
		__builtin_prefetch(ring_at(ring, ring->head + AHEAD)->kv, 1);
	ring->bytes -= event_cost(e);
	ring->first = e->main + 1;
	blob_put(e->kv);
	blob_put(e->prev);
	ring->head++;
}

/* Doubles the array; every event keeps its position. */
static int ring_grow(struct ring *ring)
{
	size_t cap = ring->cap ? ring->cap * 2 : RING_MIN;
	struct ring_event *events = malloc(cap * sizeof(*events));

	if (!events)
		return -ENOMEM;
	for (uint64_t pos = ring->head; pos < ring->tail; pos++)
		events[pos & (cap - 1)] = *ring_at(ring, pos);
	free(ring->events);
	ring->events = events;
	ring->cap = cap;
	return 0;
}

void ring_make_room(struct ring *ring, size_t cost)
{
	while (ring->tail > ring->head && (ring->tail - ring->head >= ring->max ||
					   ring->bytes + cost > ring->max_bytes))
		ring_forget(ring);
}

/* Takes over the references of @event, also where it fails. */
int ring_push(struct ring *ring, const struct ring_event *event)
{
	size_t cost = event_cost(event);
	int r;

	ring_make_room(ring, cost);
	if (ring->tail - ring->head == ring->cap) {
		r = ring_grow(ring);
		if (r) {
			blob_put(event->kv);
			blob_put(event->prev);
			return r;
		}
	}
	ring->events[ring->tail++ & (ring->cap - 1)] = *event;
	ring->bytes += cost;
	return 0;
}

uint64_t ring_seek(const struct ring *ring, int64_t revision)
{
	uint64_t lo = ring->head, hi = ring->tail;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (ring_at(ring, mid)->main < revision)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The value of a put, where the ring still has it. */
struct blob *ring_find(const struct ring *ring, int64_t main, uint32_t sub)
{
	for (uint64_t pos = ring_seek(ring, main); pos < ring->tail; pos++) {
		const struct ring_event *e = ring_at(ring, pos);

		if (e->main != main || e->sub > sub)
			return NULL;
		if (e->sub == sub)
			return e->kv;
	}
	return NULL;
}

void ring_release(struct ring *ring)
{
	while (ring->head < ring->tail)
		ring_forget(ring);
	free(ring->events);
	ring->events = NULL;
}
