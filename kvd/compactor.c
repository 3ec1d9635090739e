// SPDX-License-Identifier: Apache-2.0

#include "include/bug.h"
#include "kvd/compactor.h"

#define MINUTE 60000000000ull
#define HOUR (60 * MINUTE)
#define NOTES_PER_PERIOD 10
#define NOTES_WANTED_MAX (COMPACTOR_NOTES_MAX - 1)

void compactor_init(struct compactor *c, bool by_revision, int64_t retention, uint64_t now)
{
	*c = (struct compactor){ .by_revision = by_revision, .retention = retention };
	c->last = c->next_note = now;
}

/* How often it compacts. */
static uint64_t period(const struct compactor *c)
{
	return c->by_revision ? 5 * MINUTE : MIN((uint64_t)c->retention, HOUR);
}

/* How often it notes the revision: seldom enough for the notes of a whole retention to
 * fit, so that a very long one is not cut short. */
static uint64_t note_every(const struct compactor *c)
{
	uint64_t usual = period(c) / NOTES_PER_PERIOD;
	uint64_t least = (uint64_t)c->retention / NOTES_WANTED_MAX + 1;

	return MAX(usual, least);
}

static void note(struct compactor *c, int64_t revision)
{
	if (c->n == COMPACTOR_NOTES_MAX) {
		c->first = (c->first + 1) % COMPACTOR_NOTES_MAX;
		c->n--;
	}
	c->notes[(c->first + c->n++) % COMPACTOR_NOTES_MAX] = revision;
}

/* The revision that was current a retention ago; 0: it is not that long yet. */
static int64_t noted(struct compactor *c)
{
	uint64_t every = note_every(c);
	size_t want = (size_t)(((uint64_t)c->retention + every - 1) / every);
	int64_t revision = 0;

	while (c->n > want) {
		revision = c->notes[c->first];
		c->first = (c->first + 1) % COMPACTOR_NOTES_MAX;
		c->n--;
	}
	return revision;
}

int64_t compactor_due(struct compactor *c, uint64_t now, int64_t revision)
{
	int64_t to;

	if (!c->retention)
		return 0;
	if (!c->by_revision && now >= c->next_note) {
		note(c, revision);
		c->next_note += note_every(c);
	}
	if (now < c->last + period(c))
		return 0;
	to = c->by_revision ? revision - c->retention : noted(c);
	c->last = now;
	if (to <= c->compacted)
		return 0;
	c->compacted = to;
	return to;
}
