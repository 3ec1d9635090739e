/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses that servers listen on and clients connect to, as etcd writes them:
 * http://host:port, host:port, unix://path, unix:/path.
 */
#ifndef LIB_URL_I_H
#define LIB_URL_I_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define URL_HOST_MAX 256
#define URL_PATH_MAX 108	/* of a unix socket, with its NUL: sockaddr_un */

struct url {
	bool is_unix;
	uint16_t port;
	char host[URL_HOST_MAX];	/* an IPv6 address stands without brackets */
	char path[URL_PATH_MAX];	/* of a unix socket */
};

/* -EINVAL and a sentence in @why, -EPROTONOSUPPORT for https. */
int url_parse(const char *text, struct url *out, char *why, size_t why_size);
/* "host:port", "[host]:port" or "path"; for messages. */
void url_address(const struct url *url, char *out, size_t size);

#define URL_ADDRESS_MAX (URL_HOST_MAX + 10)

#endif
