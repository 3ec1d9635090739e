// SPDX-License-Identifier: Apache-2.0
/*
 * Words, numbers and quoted strings in the forms that etcdctl reads, which are those
 * of Go's fmt and strconv.
 */
#include "ctl/ctl.h"
#include "include/wire.h"

#include <errno.h>
#include <stdlib.h>

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

struct slice ctl_arg(const struct ctl_args *args, size_t i)
{
	BUG_ON(i >= args->n);
	return args->at[i];
}

ProtobufCBinaryData ctl_bytes(struct slice s)
{
	return (ProtobufCBinaryData){ .len = s.len, .data = (uint8_t *)s.data };
}

/* --- quoted strings ------------------------------------------------------------- */

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* @n digits of base @base off @s. */
static int take_digits(struct slice *s, int n, int base, uint32_t *out)
{
	uint32_t value = 0;

	while (n--) {
		int digit = s->len ? hex_digit(*s->data) : -1;

		if (digit < 0 || digit >= base)
			return -EINVAL;
		value = value * (uint32_t)base + (uint32_t)digit;
		s->data++;
		s->len--;
	}
	*out = value;
	return 0;
}

static uint8_t *put_utf8(uint8_t *p, uint32_t rune)
{
	if (rune < 0x80) {
		*p++ = (uint8_t)rune;
		return p;
	}
	if (rune < 0x800) {
		*p++ = (uint8_t)(0xc0 | rune >> 6);
	} else {
		if (rune < 0x10000) {
			*p++ = (uint8_t)(0xe0 | rune >> 12);
		} else {
			*p++ = (uint8_t)(0xf0 | rune >> 18);
			*p++ = (uint8_t)(0x80 | (rune >> 12 & 0x3f));
		}
		*p++ = (uint8_t)(0x80 | (rune >> 6 & 0x3f));
	}
	*p++ = (uint8_t)(0x80 | (rune & 0x3f));
	return p;
}

/* What follows a backslash, off @s; its bytes go to *@p. */
static int take_escape(struct slice *s, uint8_t **p)
{
	static const char letters[] = "abfnrtv\\\"", bytes[] = "\a\b\f\n\r\t\v\\\"";
	static const struct { char letter; int digits; } coded[] = {
		{ 'x', 2 }, { 'u', 4 }, { 'U', 8 },
	};
	const char *letter;
	uint32_t value;

	if (!s->len)
		return -EINVAL;
	letter = *s->data ? strchr(letters, *s->data) : NULL;
	if (letter) {
		*(*p)++ = (uint8_t)bytes[letter - letters];
		s->data++;
		s->len--;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(coded); i++) {
		if (*s->data != coded[i].letter)
			continue;
		s->data++;
		s->len--;
		if (take_digits(s, coded[i].digits, 16, &value))
			return -EINVAL;
		if (coded[i].letter == 'x')
			*(*p)++ = (uint8_t)value;
		else if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
			return -EINVAL;
		else
			*p = put_utf8(*p, value);
		return 0;
	}
	if (take_digits(s, 3, 8, &value) || value > 255)
		return -EINVAL;
	*(*p)++ = (uint8_t)value;
	return 0;
}

/* `...`: every byte as it is, carriage returns left out. */
static int unquote_raw(struct slice *s, uint8_t **p)
{
	for (; s->len; s->data++, s->len--) {
		if (*s->data == '`')
			return 0;
		if (*s->data != '\r')
			*(*p)++ = *s->data;
	}
	return -EINVAL;
}

static int unquote_escaped(struct slice *s, uint8_t **p)
{
	while (s->len && *s->data != '"') {
		uint8_t c = *s->data++;

		s->len--;
		if (c == '\n' || (c == '\\' && take_escape(s, p)))
			return -EINVAL;
		if (c != '\\')
			*(*p)++ = c;
	}
	return s->len ? 0 : -EINVAL;
}

int ctl_unquote(struct slice *s, struct slice *out)
{
	struct slice rest = *s;
	uint8_t *bytes, *p, quote;
	int err;

	if (!rest.len || (*rest.data != '"' && *rest.data != '`'))
		return -EINVAL;
	/* No escape is shorter than what it stands for. */
	p = bytes = malloc(rest.len);
	if (!bytes)
		return -ENOMEM;
	quote = *rest.data++;
	rest.len--;
	err = quote == '`' ? unquote_raw(&rest, &p) : unquote_escaped(&rest, &p);
	if (err) {
		free(bytes);
		return err;
	}
	*s = slice_of(rest.data + 1, rest.len - 1);
	*out = slice_of(bytes, (size_t)(p - bytes));
	return 0;
}

/* --- words ---------------------------------------------------------------------- */

/* The length of the quoted word at the start of @s with its quotes; 0: it has no end. */
static size_t quoted_len(struct slice s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.data[i] == s.data[0])
			return i + 1;
		if (s.data[i] == '\\' && s.data[0] == '"')
			i++;
	}
	return 0;
}

/* Takes the next word off @s, as it is written; false: there is none. */
static bool next_word(struct slice *s, struct slice *word)
{
	for (; s->len; s->data++, s->len--) {
		size_t n = 0;

		if (is_blank(*s->data))
			continue;
		if (*s->data == '"' || *s->data == '\'')
			n = quoted_len(*s);
		else
			while (n < s->len && !is_blank(s->data[n]))
				n++;
		/* A quote without an end is left out, as etcdctl does. */
		if (!n)
			continue;
		return wire_take(s, n, word);
	}
	return false;
}

/* Copies the word without its quotes to *@p. */
static int put_word(struct slice word, uint8_t **p)
{
	struct slice text;
	int err;

	if (*word.data == '\'') {
		word = slice_of(word.data + 1, word.len - 2);
	} else if (*word.data == '"') {
		err = ctl_unquote(&word, &text);
		if (err)
			return err;
		memcpy(*p, text.data, text.len);
		*p += text.len;
		free((void *)text.data);
		return 0;
	}
	memcpy(*p, word.data, word.len);
	*p += word.len;
	return 0;
}

int ctl_split(struct slice line, struct ctl_args *out)
{
	struct ctl_args args = { 0 };
	struct slice word;
	uint8_t *p, *start;

	/* Every word takes a byte of the line, and the bytes no more than the line has. */
	args.at = calloc(line.len + 1, sizeof(*args.at));
	p = args.bytes = malloc(line.len + 1);
	if (!args.at || !p) {
		ctl_args_release(&args);
		return -ENOMEM;
	}
	while (next_word(&line, &word)) {
		start = p;
		if (put_word(word, &p)) {
			ctl_args_release(&args);
			return -EINVAL;
		}
		args.at[args.n++] = slice_of(start, (size_t)(p - start));
	}
	*out = args;
	return 0;
}

void ctl_args_release(struct ctl_args *args)
{
	free(args->at);
	free(args->bytes);
	*args = (struct ctl_args){ 0 };
}

/* --- numbers and keys ----------------------------------------------------------- */

static int int_fail(struct slice text, int err, char *why, size_t why_size)
{
	FILE *out = fmemopen(why, why_size, "w");

	if (!out)
		return err;
	fputs("strconv.ParseInt: parsing ", out);
	text_quote(out, text);
	fputs(err == -ERANGE ? ": value out of range" : ": invalid syntax", out);
	fclose(out);
	return err;
}

int ctl_parse_int(struct slice text, int base, int64_t *out, char *why, size_t why_size)
{
	struct slice rest = text;
	uint64_t value = 0, limit;
	bool negative = text.len && *text.data == '-';

	if (text.len && (*text.data == '-' || *text.data == '+'))
		rest = slice_of(text.data + 1, text.len - 1);
	limit = (uint64_t)INT64_MAX + negative;
	if (!rest.len)
		return int_fail(text, -EINVAL, why, why_size);
	for (size_t i = 0; i < rest.len; i++) {
		int digit = hex_digit(rest.data[i]);

		if (digit < 0 || digit >= base)
			return int_fail(text, -EINVAL, why, why_size);
		/* Once too large, only whether the rest are digits matters. */
		if (value > (limit - (uint64_t)digit) / (uint64_t)base)
			value = UINT64_MAX;
		else
			value = value * (uint64_t)base + (uint64_t)digit;
	}
	if (value > limit)
		return int_fail(text, -ERANGE, why, why_size);
	*out = (int64_t)(negative ? -value : value);
	return 0;
}

int ctl_prefix_end(struct slice key, struct slice *end)
{
	uint8_t *bytes = malloc(key.len + 1);
	size_t n = key.len;

	if (!bytes)
		return -ENOMEM;
	if (key.len)
		memcpy(bytes, key.data, key.len);
	while (n && bytes[n - 1] == 0xff)
		n--;
	if (n)
		bytes[n - 1]++;
	else
		bytes[n++] = 0;		/* no end: all keys from @key on */
	*end = slice_of(bytes, n);
	return 0;
}
