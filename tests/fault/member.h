/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server in a process of its own that a test starts, talks to and kills, again and
 * again. Everything runs on the one loop, and waits no longer than a deadline.
 */
#ifndef FAULT_MEMBER_H
#define FAULT_MEMBER_H

#include <sys/types.h>

#include "lib/grpc.h"
#include "lib/pb.h"

#define MEMBER_READY_MS 20000

struct member {
	uv_loop_t loop;
	uv_timer_t timer;
	bool timed_out;
	const char *url;
	char **argv;			/* must make it listen at @url, and keep its data */
	const char *log;		/* where it says what it says; NULL: as we do */
	pid_t pid;			/* 0: it does not run */
};

/* Begin with a zeroed struct; the caller sets member and user. */
struct member_conn {
	struct member *member;
	void *user;
	struct grpc_conn *conn;		/* NULL: closed */
	bool connected;
};

void member_init(struct member *m, const char *url, char **argv);
/* Kills it, too. */
void member_release(struct member *m);

int member_start(struct member *m);
/* Says how, where it has ended by itself. */
bool member_died(struct member *m);
void member_kill(struct member *m);

/* Sets timed_out in so many milliseconds. */
void member_deadline(struct member *m, unsigned int ms);
/* Waits for something to happen; not for more than the deadline. */
void member_turn(struct member *m);

/* Tries until the server accepts; false where it has died, or in time does not. */
bool member_connect(struct member_conn *c);
/* What is under way on it is done then, one way or the other. */
void member_disconnect(struct member_conn *c);

/* Begins a call of one message. False: the connection is gone. */
bool member_send(struct member_conn *c, const char *path, const ProtobufCMessage *request,
		 const struct grpc_client_callbacks *callbacks);

/* Makes the call and waits for its end. *@out: the answer, to be freed; NULL where there
 * is none. The code, or -1 where it did not end in time. */
int member_call(struct member_conn *c, const char *path, const ProtobufCMessage *request,
		const ProtobufCMessageDescriptor *type, ProtobufCMessage **out);

#endif
