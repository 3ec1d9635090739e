/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's own parts. grpc_conn.c dials, and owns the connection; grpc_client.c
 * is what happens on one stream of it.
 */
#ifndef LIB_GRPC_CLIENT_I_H
#define LIB_GRPC_CLIENT_I_H

#include "lib/grpc_i.h"
#include "lib/http2_i.h"
#include "lib/socket_i.h"
#include "lib/url_i.h"

/* Bytes of one response message: what etcdctl takes, too. */
#define GRPC_CLIENT_MESSAGE_MAX INT32_MAX
#define CONN_TEXT_MAX 512

struct grpc_conn {
	struct socket_set set;
	struct socket socket;
	struct http2 http2;
	struct grpc_conn_callbacks callbacks;
	struct url url;
	char address[URL_ADDRESS_MAX];
	char authority[URL_ADDRESS_MAX];
	uv_getaddrinfo_t resolve;
	uv_connect_t connect;
	struct addrinfo *addresses, *next;	/* of the name; those not tried yet */
	bool resolving;
	bool has_socket;	/* socket is open or closing */
	bool closing;
	uv_timer_t timer;	/* for the first of deadlines */
	struct list deadlines;	/* calls that have one, soonest first */
	int error;		/* of closed */
	enum grpc_code code;	/* of the calls that it ends */
	char text[CONN_TEXT_MAX];
	char goaway[192];	/* what the server said about it */
};

extern const struct http2_ops grpc_client_ops;

/* The first SETTINGS came, or GOAWAY did. */
void grpc_conn_ready(struct http2 *http2);
void grpc_conn_goaway(struct http2 *http2, uint32_t error, struct slice debug);
/* Ends the calls whose deadline is over and sets the timer for the next. */
void grpc_client_expire(struct grpc_conn *conn);

#endif
