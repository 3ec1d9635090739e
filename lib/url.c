/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: see url_i.h. */
#include "lib/url_i.h"

#include <errno.h>
#include <stdio.h>

#include "include/slice.h"

static int bad(const char *text, const char *what, char *why, size_t why_size)
{
	snprintf(why, why_size, "\"%s\": %s", text, what);
	return -EINVAL;
}

static bool copy(char *out, size_t size, const char *from, size_t n)
{
	if (n >= size || memchr(from, 0, n))
		return false;
	memcpy(out, from, n);
	out[n] = 0;
	return true;
}

static int parse_port(const char *text, uint16_t *out)
{
	unsigned long v = 0;

	if (!*text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 5)
		return -EINVAL;
	for (; *text; text++)
		v = v * 10 + (unsigned long)(*text - '0');
	if (v > 65535)
		return -EINVAL;
	*out = (uint16_t)v;
	return 0;
}

static int parse_unix(const char *text, const char *path, struct url *out, char *why,
		      size_t why_size)
{
	out->is_unix = true;
	if (!*path)
		return bad(text, "the path of the unix socket is missing", why, why_size);
	if (!copy(out->path, sizeof(out->path), path, strlen(path)))
		return bad(text, "the path of a unix socket has at most 107 bytes", why, why_size);
	return 0;
}

static int parse_host(const char *text, const char *rest, struct url *out, char *why,
		      size_t why_size)
{
	const char *form = "the address is not of the form host:port";
	size_t len = strcspn(rest, "/");
	const char *colon = memrchr(rest, ':', len);
	const char *host = rest;
	char port[8];
	size_t n;

	if (rest[len] && rest[len + 1])
		return bad(text, "the address has a path", why, why_size);
	if (!colon)
		return bad(text, form, why, why_size);
	n = (size_t)(colon - rest);
	if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
		host++;
		n -= 2;
	} else if (memchr(host, ':', n)) {
		return bad(text, "an IPv6 address stands in brackets", why, why_size);
	}
	if (!copy(out->host, sizeof(out->host), host, n))
		return bad(text, "the host name is too long", why, why_size);
	if (!copy(port, sizeof(port), colon + 1, len - (size_t)(colon + 1 - rest)) ||
	    parse_port(port, &out->port))
		return bad(text, "the port is not a number from 0 to 65535", why, why_size);
	return 0;
}

int url_parse(const char *text, struct url *out, char *why, size_t why_size)
{
	struct url url = { 0 };
	const char *rest = text;
	int err;

	if (!strncmp(text, "https://", 8) || !strncmp(text, "unixs:", 6)) {
		bad(text, "TLS is not supported; use http:// or unix://", why, why_size);
		return -EPROTONOSUPPORT;
	}
	if (!strncmp(text, "unix:", 5)) {
		rest += strncmp(text, "unix://", 7) ? 5 : 7;
		err = parse_unix(text, rest, &url, why, why_size);
	} else {
		if (!strncmp(text, "http://", 7))
			rest += 7;
		else if (strstr(text, "://"))
			return bad(text, "the scheme is neither http nor unix", why, why_size);
		err = parse_host(text, rest, &url, why, why_size);
	}
	if (err)
		return err;
	*out = url;
	return 0;
}

void url_address(const struct url *url, char *out, size_t size)
{
	if (url->is_unix)
		snprintf(out, size, "%s", url->path);
	else
		snprintf(out, size, strchr(url->host, ':') ? "[%s]:%u" : "%s:%u", url->host,
			 url->port);
}
