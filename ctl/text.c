// SPDX-License-Identifier: Apache-2.0
/*
 * Text as Go writes it, so that a script reads the same from kvctl as from etcdctl.
 */
#include "ctl/ctl.h"

#include <inttypes.h>
#include <wctype.h>

/* The length of the UTF-8 sequence at the start of @s and its rune; 0: it is none. */
size_t text_rune(struct slice s, uint32_t *rune)
{
	static const struct { uint8_t mask, lead; uint32_t min; } forms[] = {
		{ 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 },
		{ 0xf8, 0xf0, 0x10000 },
	};

	for (size_t n = 1; s.len && n <= ARRAY_SIZE(forms) && n <= s.len; n++) {
		uint32_t value = s.data[0] & (uint8_t)~forms[n - 1].mask;
		size_t i = 1;

		if ((s.data[0] & forms[n - 1].mask) != forms[n - 1].lead)
			continue;
		for (; i < n && (s.data[i] & 0xc0) == 0x80; i++)
			value = value << 6 | (s.data[i] & 0x3f);
		if (i < n || value < forms[n - 1].min || value > 0x10ffff ||
		    (value >= 0xd800 && value < 0xe000))
			return 0;
		*rune = value;
		return n;
	}
	return 0;
}

/* As unicode.IsPrint: letters, marks, numbers, punctuation, symbols and ' ' alone. */
static bool is_print(uint32_t rune)
{
	static const struct { uint32_t from, to; } blank_or_format[] = {
		{ 0xa0, 0xa0 }, { 0xad, 0xad }, { 0x600, 0x605 }, { 0x61c, 0x61c },
		{ 0x6dd, 0x6dd }, { 0x70f, 0x70f }, { 0x1680, 0x1680 }, { 0x180e, 0x180e },
		{ 0x2000, 0x200f }, { 0x2028, 0x202f }, { 0x205f, 0x206f }, { 0x3000, 0x3000 },
		{ 0xe000, 0xf8ff }, { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb },
		{ 0xe0001, 0xe007f }, { 0xf0000, 0x10ffff },
	};

	if (rune < 0x7f)
		return rune >= ' ';
	for (size_t i = 0; i < ARRAY_SIZE(blank_or_format); i++)
		if (rune >= blank_or_format[i].from && rune <= blank_or_format[i].to)
			return false;
	return iswprint((wint_t)rune);
}

static void quote_rune(FILE *out, struct slice bytes, uint32_t rune)
{
	static const char letters[] = "abfnrtv\\\"", escaped[] = "\a\b\f\n\r\t\v\\\"";
	const char *p = rune && rune < 0x80 ? strchr(escaped, (int)rune) : NULL;

	if (p)
		fprintf(out, "\\%c", letters[p - escaped]);
	else if (is_print(rune))
		fwrite(bytes.data, 1, bytes.len, out);
	else if (rune < 0x80)
		fprintf(out, "\\x%02" PRIx32, rune);
	else if (rune < 0x10000)
		fprintf(out, "\\u%04" PRIx32, rune);
	else
		fprintf(out, "\\U%08" PRIx32, rune);
}

void text_quote(FILE *out, struct slice s)
{
	uint32_t rune;
	size_t n;

	fputc('"', out);
	for (; s.len; s.data += n, s.len -= n) {
		n = text_rune(s, &rune);
		if (n) {
			quote_rune(out, slice_of(s.data, n), rune);
		} else {
			fprintf(out, "\\x%02x", s.data[0]);
			n = 1;
		}
	}
	fputc('"', out);
}

/* @value in units of 10^-@digits, without the zeros at its end. */
static void put_fraction(FILE *out, uint64_t value, uint64_t unit, const char *name)
{
	char fraction[24];
	uint64_t rest = value % unit;
	int digits = 0;

	fprintf(out, "%" PRIu64, value / unit);
	for (uint64_t u = unit; u > 1; u /= 10)
		digits++;
	if (rest) {
		int n = snprintf(fraction, sizeof(fraction), "%0*" PRIu64, digits, rest);

		while (n && fraction[n - 1] == '0')
			fraction[--n] = '\0';
		fprintf(out, ".%s", fraction);
	}
	fputs(name, out);
}

void text_duration(FILE *out, int64_t ns)
{
	const uint64_t second = UINT64_C(1000000000);
	uint64_t v = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;

	if (ns < 0)
		fputc('-', out);
	if (!v) {
		fputs("0s", out);
	} else if (v < 1000) {
		fprintf(out, "%" PRIu64 "ns", v);
	} else if (v < 1000000) {
		put_fraction(out, v, 1000, "\302\265s");
	} else if (v < second) {
		put_fraction(out, v, 1000000, "ms");
	} else {
		if (v >= 3600 * second)
			fprintf(out, "%" PRIu64 "h", v / (3600 * second));
		if (v >= 60 * second)
			fprintf(out, "%" PRIu64 "m", v / (60 * second) % 60);
		put_fraction(out, v % (60 * second), second, "s");
	}
}

void text_size(FILE *out, uint64_t bytes)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
	uint64_t tenths, unit = 1;
	size_t i = 0;

	if (bytes < 10) {
		fprintf(out, "%" PRIu64 " B", bytes);
		return;
	}
	while (i + 1 < ARRAY_SIZE(units) && bytes / unit >= 1000) {
		unit *= 1000;
		i++;
	}
	/* One digit after the point below ten, rounded to tenths first and then to ones. */
	tenths = (uint64_t)((double)bytes / (double)unit * 10 + 0.5);
	if (tenths < 100)
		fprintf(out, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10, units[i]);
	else
		fprintf(out, "%.0f %s", (double)tenths / 10, units[i]);
}
