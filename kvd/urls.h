/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The URLs of the flags: where to listen, what to advertise, who the first members
 * are. Accepted as etcd accepts them:
 *	http://HOST:PORT		TCP; no path
 *	unix://PATH			a socket in the file system; unix://a:1 is the
 *					relative path a:1
 * https and unixs mean TLS, which is not supported yet.
 */
#ifndef KVD_URLS_H
#define KVD_URLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kvd_url {
	char *text;		/* as given, without blanks around it */
	bool local;		/* a unix socket: host is its path, port is 0 */
	char *host;		/* an IPv6 address is without its brackets */
	uint16_t port;
};

/* A list in order of the texts, without repetition, owned by whoever holds it. */
struct kvd_urls {
	struct kvd_url *urls;
	char **texts;		/* the same, for those who want the texts alone */
	size_t n;
};

/* One member of the initial cluster. */
struct kvd_first_member {
	char *name;
	struct kvd_urls peer_urls;
};

/* In order of the names. */
struct kvd_first_members {
	struct kvd_first_member *members;
	size_t n;
};

#define KVD_URLS_MAX 64		/* in one list */
#define KVD_FIRST_MEMBERS_MAX 64

enum kvd_url_use {
	KVD_URL_LISTEN,		/* the host is an IP address or "localhost" */
	KVD_URL_ADVERTISE,	/* the host is not empty */
};

/* @flag is the name of the option, for @why. -EINVAL, -EOPNOTSUPP (TLS), -ENOMEM. */
struct kvd_urls_args {
	const char *flag;
	enum kvd_url_use use;
	char *why;
	size_t why_size;
};

/* "url,url,..." */
int kvd_urls_parse(const char *list, const struct kvd_urls_args *args, struct kvd_urls *out);
void kvd_urls_release(struct kvd_urls *urls);
bool kvd_urls_equal(const struct kvd_urls *a, const struct kvd_urls *b);

/* "name=url,name=url,..."; a name may stand several times, once for each URL. */
int kvd_first_members_parse(const char *list, const struct kvd_urls_args *args,
			    struct kvd_first_members *out);
void kvd_first_members_release(struct kvd_first_members *members);
const struct kvd_first_member *kvd_first_member_find(const struct kvd_first_members *members,
						     const char *name);

#endif
