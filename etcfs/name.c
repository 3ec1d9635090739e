// SPDX-License-Identifier: Apache-2.0
#include "etcfs/name.h"

#include <errno.h>

#include "include/bug.h"

/* Components that need a name of their own, and that name without its percent sign. */
static const struct special {
	const char *component;
	const char *escape;
} specials[] = {
	{ "", "_" },
	{ ".", "2E" },
	{ "..", "2E%2E" },
	{ NAME_VALUE, "2Evalue" },
};

/* How many bytes of @s, from a percent sign on, are "%" and then "25" repeated. */
static size_t percent_run(struct slice s)
{
	size_t n = 1;

	while (n + 2 <= s.len && s.data[n] == '2' && s.data[n + 1] == '5')
		n += 2;
	return n;
}

static struct slice tail(struct slice s, size_t from)
{
	return slice_of(s.data + from, s.len - from);
}

/* The special whose escape @s is, with any number of "25" before it. */
static const struct special *special_escape(struct slice s, size_t *run)
{
	if (!s.len || s.data[0] != '%')
		return NULL;
	*run = percent_run(s);
	for (size_t i = 0; i < ARRAY_SIZE(specials); i++)
		if (slice_eq(tail(s, *run), slice_str(specials[i].escape)))
			return &specials[i];
	return NULL;
}

static bool nul_escape(struct slice s, size_t *run)
{
	if (!s.len || s.data[0] != '%')
		return false;
	*run = percent_run(s);
	return slice_has_prefix(tail(s, *run), SLICE_LIT("00"));
}

struct writer {
	char *at;
	size_t room;
};

static bool put(struct writer *w, struct slice s)
{
	if (s.len > w->room)
		return false;
	if (s.len)
		memcpy(w->at, s.data, s.len);
	w->at += s.len;
	w->room -= s.len;
	return true;
}

static bool put_bytes(struct writer *w, struct slice c)
{
	size_t run;

	while (c.len) {
		struct slice piece = slice_of(c.data, 1);

		if (!c.data[0])
			piece = SLICE_LIT("%00");
		else if (nul_escape(c, &run))
			piece = SLICE_LIT("%25");
		if (!put(w, piece))
			return false;
		c = tail(c, 1);
	}
	return true;
}

int name_from_component(struct slice component, char name[NAME_MAX + 1])
{
	struct writer w = { .at = name, .room = NAME_MAX };
	size_t run;
	bool fits;

	for (size_t i = 0; i < ARRAY_SIZE(specials); i++) {
		if (!slice_eq(component, slice_str(specials[i].component)))
			continue;
		fits = put(&w, SLICE_LIT("%")) && put(&w, slice_str(specials[i].escape));
		BUG_ON(!fits);
		*w.at = '\0';
		return 0;
	}
	if (special_escape(component, &run))
		fits = put(&w, SLICE_LIT("%25")) && put(&w, tail(component, 1));
	else
		fits = put_bytes(&w, component);
	if (!fits)
		return -ENAMETOOLONG;
	*w.at = '\0';
	return 0;
}

size_t name_to_component(const char *name, uint8_t component[NAME_MAX])
{
	struct slice s = slice_str(name);
	struct writer w = { .at = (char *)component, .room = NAME_MAX };
	size_t run = 0;
	const struct special *special = special_escape(s, &run);
	bool fits = true;

	BUG_ON(s.len > NAME_MAX);
	if (special && run == 1) {
		fits = put(&w, slice_str(special->component));
		s.len = 0;
	} else if (special) {
		fits = put(&w, SLICE_LIT("%")) && put(&w, tail(s, 3));
		s.len = 0;
	}
	while (s.len) {
		size_t used = 1;

		if (!nul_escape(s, &run)) {
			fits = fits && put(&w, slice_of(s.data, 1));
		} else if (run == 1) {
			fits = fits && put(&w, slice_of("", 1));
			used = 3;
		} else {
			fits = fits && put(&w, SLICE_LIT("%"));
			used = 3;
		}
		s = tail(s, used);
	}
	BUG_ON(!fits);
	return NAME_MAX - w.room;
}

bool name_next_component(struct slice *rest, bool *end, struct slice *component)
{
	const uint8_t *slash;

	if (*end)
		return false;
	slash = rest->len ? memchr(rest->data, '/', rest->len) : NULL;
	if (!slash) {
		*component = *rest;
		*end = true;
		return true;
	}
	*component = slice_of(rest->data, (size_t)(slash - rest->data));
	*rest = tail(*rest, component->len + 1);
	return true;
}
