/* SPDX-License-Identifier: Apache-2.0 */
/* Values of options: from text to the member of the caller's structure. */
#include "lib/options_i.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The spellings that Go's flag package takes. */
static int parse_bool(const char *text, bool *out)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (!strcmp(text, yes[i])) {
			*out = true;
			return 0;
		}
		if (!strcmp(text, no[i])) {
			*out = false;
			return 0;
		}
	}
	return -EINVAL;
}

/* Decimal, or hexadecimal after 0x, as Go's. */
static int parse_int(const char *text, int64_t *out)
{
	char *end;
	long long v;

	if (!*text || isspace((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	v = strtoll(text, &end, 0);
	if (*end)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*out = v;
	return 0;
}

/* --- durations ------------------------------------------------------------------ */

static const struct {
	const char *name;
	int64_t ns;
} duration_units[] = {
	{ "ns", 1 }, { "us", 1000 }, { "\xc2\xb5s", 1000 }, { "\xce\xbcs", 1000 },
	{ "ms", 1000000 }, { "s", 1000000000 },
	{ "m", INT64_C(60000000000) }, { "h", INT64_C(3600000000000) },
};

/* The unit at *@p, which moves past it; 0 where there is none. */
static int64_t duration_unit(const char **p)
{
	size_t n = strcspn(*p, ".0123456789");

	for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++) {
		if (strlen(duration_units[i].name) != n ||
		    memcmp(*p, duration_units[i].name, n))
			continue;
		*p += n;
		return duration_units[i].ns;
	}
	return 0;
}

/* One number with its unit, such as 1.5h, added to *@sum. */
static int duration_part(const char **p, int64_t *sum)
{
	int64_t whole = 0, unit, part;
	double fraction = 0, scale = 1;
	const char *start = *p, *digits;

	for (; isdigit((unsigned char)**p); ++*p)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, **p - '0', &whole))
			return -EINVAL;
	digits = *p;
	if (**p == '.') {
		for (++*p; isdigit((unsigned char)**p); ++*p) {
			scale /= 10;
			fraction += (**p - '0') * scale;
		}
		if (digits == start && *p == digits + 1)
			return -EINVAL;		/* a point without a digit */
	}
	if (*p == start)
		return -EINVAL;
	unit = duration_unit(p);
	if (!unit || __builtin_mul_overflow(whole, unit, &part) ||
	    __builtin_add_overflow(part, (int64_t)(fraction * (double)unit + 0.5), &part) ||
	    __builtin_add_overflow(*sum, part, sum))
		return -EINVAL;
	return 0;
}

int option_parse_duration(const char *text, int64_t *out)
{
	bool negative = *text == '-';
	const char *p = text;
	int64_t sum = 0;

	if (*p == '-' || *p == '+')
		p++;
	if (!*p)
		return -EINVAL;
	if (strcmp(p, "0"))
		while (*p)
			if (duration_part(&p, &sum) < 0)
				return -EINVAL;
	*out = negative ? -sum : sum;
	return 0;
}

/* --- storing -------------------------------------------------------------------- */

static int set_string(struct options *o, const struct option_def *def, const char *text)
{
	const char *kept = options_keep(o, text);

	if (!kept)
		return options_fail(o, -ENOMEM, "out of memory");
	*(const char **)(void *)(o->config + def->offset) = kept;
	return 0;
}

static int set_bool(struct options *o, const struct option_def *def, const char *source,
		    const char *text)
{
	if (parse_bool(text, (bool *)(o->config + def->offset)) < 0)
		return options_fail(o, -EINVAL, "%s=%s: neither true nor false", source, text);
	return 0;
}

static int set_int(struct options *o, const struct option_def *def, const char *source,
		   const char *text)
{
	int64_t v;
	int r = parse_int(text, &v);

	if (r == -EINVAL)
		return options_fail(o, r, "%s=%s: not a whole number", source, text);
	if (r < 0 || ((def->min || def->max) && (v < def->min || v > def->max))) {
		if (!def->min && !def->max)
			return options_fail(o, -ERANGE, "%s=%s: too large a number", source, text);
		return options_fail(o, -ERANGE, "%s=%s: must be from %" PRId64 " to %" PRId64,
				    source, text, def->min, def->max);
	}
	*(int64_t *)(void *)(o->config + def->offset) = v;
	return 0;
}

static int set_duration(struct options *o, const struct option_def *def, const char *source,
			const char *text)
{
	int64_t v;

	if (option_parse_duration(text, &v) < 0)
		return options_fail(o, -EINVAL,
				    "%s=%s: not a time with its unit, such as 300ms, 5s or 1h30m",
				    source, text);
	if ((def->min || def->max) && (v < def->min || v > def->max))
		return options_fail(o, -ERANGE,
				    "%s=%s: must be from %" PRId64 "ms to %" PRId64 "ms", source,
				    text, def->min / 1000000, def->max / 1000000);
	*(int64_t *)(void *)(o->config + def->offset) = v;
	return 0;
}

/* True where both texts mean the same bool or the same duration. */
static bool same_meaning(const char *def, const char *text)
{
	int64_t def_ns, ns;
	bool def_bool, b;

	if (!strcmp(def, text))
		return true;
	if (!strcmp(def, "true") || !strcmp(def, "false"))
		return !parse_bool(def, &def_bool) && !parse_bool(text, &b) && b == def_bool;
	return !option_parse_duration(def, &def_ns) && !option_parse_duration(text, &ns) &&
	       ns == def_ns;
}

static int check_unsupported(struct options *o, const struct option_def *def, const char *source,
			     const char *text)
{
	if (def->def && same_meaning(def->def, text))
		return 0;
	if (!def->def || !*def->def)
		return options_fail(o, -EOPNOTSUPP, "%s is not supported yet: remove it", source);
	return options_fail(o, -EOPNOTSUPP,
			    "%s is not supported yet: remove it (the only value taken is %s)",
			    source, def->def);
}

int option_set(struct options *o, const struct option_def *def, const char *source,
	       const char *text)
{
	switch (def->type) {
	case OPTION_STRING:
		return set_string(o, def, text);
	case OPTION_BOOL:
		return set_bool(o, def, source, text);
	case OPTION_INT:
		return set_int(o, def, source, text);
	case OPTION_DURATION:
		return set_duration(o, def, source, text);
	case OPTION_UNSUPPORTED:
		return check_unsupported(o, def, source, text);
	case OPTION_IGNORED:
		return 0;
	}
	BUG();
	return -EINVAL;
}

int option_set_default(struct options *o, const struct option_def *def)
{
	bool none = !def->def || !*def->def;

	switch (def->type) {
	case OPTION_STRING:
		*(const char **)(void *)(o->config + def->offset) = def->def ? def->def : "";
		return 0;
	case OPTION_BOOL:
		*(bool *)(o->config + def->offset) = false;
		break;
	case OPTION_INT:
	case OPTION_DURATION:
		*(int64_t *)(void *)(o->config + def->offset) = 0;
		break;
	case OPTION_UNSUPPORTED:
	case OPTION_IGNORED:
		return 0;
	}
	return none ? 0 : option_set(o, def, def->name, def->def);
}
