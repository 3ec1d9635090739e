/* SPDX-License-Identifier: Apache-2.0 */
#include "kvd/urls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/bug.h"

static __printf(3, 4) int fail(const struct kvd_urls_args *args, int err, const char *fmt, ...)
{
	int n = snprintf(args->why, args->why_size, "--%s: ", args->flag);
	va_list list;

	if (n < 0 || (size_t)n >= args->why_size)
		return err;
	va_start(list, fmt);
	vsnprintf(args->why + n, args->why_size - (size_t)n, fmt, list);
	va_end(list);
	return err;
}

static int fail_memory(const struct kvd_urls_args *args)
{
	return fail(args, -ENOMEM, "out of memory");
}

/* --- one URL -------------------------------------------------------------- */

static void url_release(struct kvd_url *url)
{
	free(url->text);
	free(url->host);
}

static bool is_ip_address(const char *host)
{
	struct in6_addr addr;

	return inet_pton(AF_INET, host, &addr) == 1 || inet_pton(AF_INET6, host, &addr) == 1;
}

static int check_host(const struct kvd_url *url, const struct kvd_urls_args *args)
{
	if (!*url->host)
		return fail(args, -EINVAL, "%s has no host", url->text);
	if (args->use == KVD_URL_LISTEN && strcmp(url->host, "localhost") &&
	    !is_ip_address(url->host))
		return fail(args, -EINVAL,
			    "%s: the host must be an IP address or localhost to listen on",
			    url->text);
	return 0;
}

/* Digits only, at most 65535. */
static int parse_port(const char *text, uint16_t *out)
{
	unsigned long v;
	size_t n = strspn(text, "0123456789");

	if (n == 0 || n > 5 || text[n])
		return -EINVAL;
	v = strtoul(text, NULL, 10);
	if (v > UINT16_MAX)
		return -EINVAL;
	*out = (uint16_t)v;
	return 0;
}

/* @rest is what follows http:// */
static int parse_host_port(const char *rest, const struct kvd_urls_args *args, struct kvd_url *url)
{
	const char *colon = strrchr(rest, ':'), *host = rest;
	size_t host_len;

	if (strpbrk(rest, "/?#@"))
		return fail(args, -EINVAL, "%s must end with the port: no path, no user",
			    url->text);
	if (!colon || parse_port(colon + 1, &url->port) < 0)
		return fail(args, -EINVAL, "%s must have the form http://host:port", url->text);
	host_len = (size_t)(colon - host);
	if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
		host++;
		host_len -= 2;
	} else if (memchr(host, ':', host_len)) {
		return fail(args, -EINVAL, "%s: an IPv6 address stands in brackets", url->text);
	}
	url->host = strndup(host, host_len);
	if (!url->host)
		return fail_memory(args);
	return check_host(url, args);
}

static int parse_local(const char *path, const struct kvd_urls_args *args, struct kvd_url *url)
{
	if (!*path)
		return fail(args, -EINVAL, "%s has no path", url->text);
	url->local = true;
	url->host = strdup(path);
	return url->host ? 0 : fail_memory(args);
}

static int url_parse(const char *text, size_t len, const struct kvd_urls_args *args,
		     struct kvd_url *url)
{
	while (len && isspace((unsigned char)*text)) {
		text++;
		len--;
	}
	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	if (!len)
		return fail(args, -EINVAL, "empty URL");
	url->text = strndup(text, len);
	if (!url->text)
		return fail_memory(args);
	if (!strncasecmp(url->text, "http://", 7))
		return parse_host_port(url->text + 7, args, url);
	if (!strncasecmp(url->text, "unix://", 7))
		return parse_local(url->text + 7, args, url);
	if (!strncasecmp(url->text, "https://", 8) || !strncasecmp(url->text, "unixs://", 8))
		return fail(args, -EOPNOTSUPP, "%s: TLS is not supported yet: use http or unix",
			    url->text);
	return fail(args, -EINVAL, "%s: the scheme must be http or unix", url->text);
}

/* --- lists ---------------------------------------------------------------- */

static int compare_urls(const void *a, const void *b)
{
	return strcmp(((const struct kvd_url *)a)->text, ((const struct kvd_url *)b)->text);
}

static void urls_unique(struct kvd_urls *list)
{
	size_t n = 0;

	qsort(list->urls, list->n, sizeof(*list->urls), compare_urls);
	for (size_t i = 0; i < list->n; i++) {
		if (n && !strcmp(list->urls[n - 1].text, list->urls[i].text))
			url_release(&list->urls[i]);
		else
			list->urls[n++] = list->urls[i];
	}
	list->n = n;
	for (size_t i = 0; i < n; i++)
		list->texts[i] = list->urls[i].text;
}

static int urls_append(struct kvd_urls *list, const char *text, size_t len,
		       const struct kvd_urls_args *args)
{
	struct kvd_url url = { 0 };
	int r;

	if (!list->urls) {
		list->urls = calloc(KVD_URLS_MAX, sizeof(*list->urls));
		list->texts = calloc(KVD_URLS_MAX, sizeof(*list->texts));
	}
	if (!list->urls || !list->texts)
		return fail_memory(args);
	if (list->n == KVD_URLS_MAX)
		return fail(args, -E2BIG, "more than %d URLs", KVD_URLS_MAX);
	r = url_parse(text, len, args, &url);
	if (r < 0) {
		url_release(&url);
		return r;
	}
	list->urls[list->n++] = url;
	return 0;
}

int kvd_urls_parse(const char *list, const struct kvd_urls_args *args, struct kvd_urls *out)
{
	struct kvd_urls urls = { 0 };
	size_t len;
	int r;

	for (;; list += len + 1) {
		len = strcspn(list, ",");
		r = urls_append(&urls, list, len, args);
		if (r < 0) {
			kvd_urls_release(&urls);
			return r;
		}
		if (!list[len])
			break;
	}
	urls_unique(&urls);
	*out = urls;
	return 0;
}

void kvd_urls_release(struct kvd_urls *list)
{
	for (size_t i = 0; i < list->n; i++)
		url_release(&list->urls[i]);
	free(list->urls);
	free(list->texts);
	*list = (struct kvd_urls){ 0 };
}

bool kvd_urls_equal(const struct kvd_urls *a, const struct kvd_urls *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->texts[i], b->texts[i]))
			return false;
	return true;
}

/* --- the first members ---------------------------------------------------- */

/* The member called @name, added where it is new; NULL: no memory, or too many. */
static struct kvd_first_member *member_of(struct kvd_first_members *list, const char *name,
					  size_t len)
{
	struct kvd_first_member *m;

	for (size_t i = 0; i < list->n; i++) {
		m = &list->members[i];
		if (strlen(m->name) == len && !memcmp(m->name, name, len))
			return m;
	}
	if (!list->members)
		list->members = calloc(KVD_FIRST_MEMBERS_MAX, sizeof(*list->members));
	if (!list->members || list->n == KVD_FIRST_MEMBERS_MAX)
		return NULL;
	m = &list->members[list->n];
	m->name = strndup(name, len);
	if (!m->name)
		return NULL;
	list->n++;
	return m;
}

/* Adds one "name=url" of @len bytes. */
static int members_append(struct kvd_first_members *list, const char *text, size_t len,
			  const struct kvd_urls_args *args)
{
	const char *equals = memchr(text, '=', len);
	struct kvd_first_member *m;
	size_t name_len;

	while (len && isspace((unsigned char)*text)) {
		text++;
		len--;
	}
	if (!equals || equals == text || equals == text + len - 1)
		return fail(args, -EINVAL, "'%.*s' must have the form name=URL", (int)len, text);
	name_len = (size_t)(equals - text);
	m = member_of(list, text, name_len);
	if (!m && list->n == KVD_FIRST_MEMBERS_MAX)
		return fail(args, -E2BIG, "more than %d members", KVD_FIRST_MEMBERS_MAX);
	if (!m)
		return fail_memory(args);
	return urls_append(&m->peer_urls, equals + 1, len - name_len - 1, args);
}

/* Two members cannot be reached at one address. */
static int check_distinct(const struct kvd_first_members *list, const struct kvd_urls_args *args)
{
	for (size_t i = 0; i < list->n; i++)
		for (size_t u = 0; u < list->members[i].peer_urls.n; u++)
			for (size_t j = 0; j < i; j++)
				for (size_t v = 0; v < list->members[j].peer_urls.n; v++)
					if (!strcmp(list->members[i].peer_urls.texts[u],
						    list->members[j].peer_urls.texts[v]))
						return fail(args, -EINVAL,
							    "%s is given for two members",
							    list->members[i].peer_urls.texts[u]);
	return 0;
}

static int compare_members(const void *a, const void *b)
{
	return strcmp(((const struct kvd_first_member *)a)->name,
		      ((const struct kvd_first_member *)b)->name);
}

int kvd_first_members_parse(const char *list, const struct kvd_urls_args *args,
			    struct kvd_first_members *out)
{
	struct kvd_first_members found = { 0 };
	size_t len;
	int r;

	for (;; list += len + 1) {
		len = strcspn(list, ",");
		r = members_append(&found, list, len, args);
		if (r < 0 || !list[len])
			break;
	}
	for (size_t i = 0; i < found.n; i++)
		urls_unique(&found.members[i].peer_urls);
	if (r == 0)
		r = check_distinct(&found, args);
	if (r < 0) {
		kvd_first_members_release(&found);
		return r;
	}
	qsort(found.members, found.n, sizeof(*found.members), compare_members);
	*out = found;
	return 0;
}

void kvd_first_members_release(struct kvd_first_members *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free(list->members[i].name);
		kvd_urls_release(&list->members[i].peer_urls);
	}
	free(list->members);
	*list = (struct kvd_first_members){ 0 };
}

const struct kvd_first_member *kvd_first_member_find(const struct kvd_first_members *list,
						     const char *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (!strcmp(list->members[i].name, name))
			return &list->members[i];
	return NULL;
}
