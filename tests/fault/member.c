// SPDX-License-Identifier: Apache-2.0
/* A server that is started, talked to and killed: see member.h. */
#include "tests/fault/member.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/bug.h"

#define RETRY_MS 5

static void on_timer(uv_timer_t *timer)
{
	struct member *m = timer->data;

	m->timed_out = true;
}

void member_init(struct member *m, const char *url, char **argv)
{
	*m = (struct member){ .url = url, .argv = argv };
	uv_loop_init(&m->loop);
	uv_timer_init(&m->loop, &m->timer);
	m->timer.data = m;
}

void member_release(struct member *m)
{
	member_kill(m);
	uv_close((uv_handle_t *)&m->timer, NULL);
	uv_run(&m->loop, UV_RUN_DEFAULT);
	uv_loop_close(&m->loop);
}

void member_deadline(struct member *m, unsigned int ms)
{
	m->timed_out = false;
	uv_timer_start(&m->timer, on_timer, ms, 0);
}

void member_turn(struct member *m)
{
	uv_run(&m->loop, UV_RUN_ONCE);
}

/* --- the process ------------------------------------------------------------- */

int member_start(struct member *m)
{
	m->pid = fork();
	if (m->pid < 0)
		return -errno;
	if (!m->pid) {
		int fd = m->log ? open(m->log, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;

		if (fd >= 0)
			dup2(fd, STDERR_FILENO);
		execv(m->argv[0], m->argv);
		_exit(127);
	}
	return 0;
}

bool member_died(struct member *m)
{
	int status;

	if (waitpid(m->pid, &status, WNOHANG) != m->pid)
		return false;
	printf("# the server ended by itself, status 0x%x\n", (unsigned)status);
	m->pid = 0;
	return true;
}

void member_kill(struct member *m)
{
	if (m->pid <= 0)
		return;
	kill(m->pid, SIGKILL);
	waitpid(m->pid, NULL, 0);
	m->pid = 0;
}

/* --- connections --------------------------------------------------------------- */

static void on_connected(struct grpc_conn *conn)
{
	struct member_conn *c = grpc_conn_user(conn);

	c->connected = true;
}

static void on_closed(struct grpc_conn *conn, int error, const char *text)
{
	struct member_conn *c = grpc_conn_user(conn);

	c->conn = NULL;
	c->connected = false;
}

bool member_connect(struct member_conn *c)
{
	const struct grpc_conn_callbacks cb = {
		.connected = on_connected, .closed = on_closed, .user = c,
	};
	struct member *m = c->member;
	uint64_t end = uv_hrtime() + MEMBER_READY_MS * UINT64_C(1000000);

	while (!member_died(m) && uv_hrtime() < end) {
		if (grpc_conn_open(&m->loop, m->url, &cb, &c->conn))
			return false;
		while (c->conn && !c->connected)
			member_turn(m);
		if (c->conn)
			return true;
		member_deadline(m, RETRY_MS);
		while (!m->timed_out)
			member_turn(m);
	}
	return false;
}

void member_disconnect(struct member_conn *c)
{
	if (!c->conn)
		return;
	grpc_conn_close(c->conn);
	member_deadline(c->member, MEMBER_READY_MS);
	while (c->conn && !c->member->timed_out)
		member_turn(c->member);
}

/* --- calls ---------------------------------------------------------------------- */

bool member_send(struct member_conn *c, const char *path, const ProtobufCMessage *request,
		 const struct grpc_client_callbacks *callbacks)
{
	struct grpc_client_call *call;
	struct chain message;

	if (!c->conn || grpc_client_call_open(c->conn, path, callbacks, 0, &call))
		return false;
	chain_init(&message);
	pb_pack_chain(request, &message);
	grpc_client_call_send(call, &message);
	grpc_client_call_half_close(call);
	return true;
}

struct waiting {
	const ProtobufCMessageDescriptor *type;
	ProtobufCMessage *message;
	bool done;
	int code;
};

static void on_message(struct grpc_client_call *call, struct slice message)
{
	struct waiting *w = grpc_client_call_user(call);

	if (!w->message)
		w->message = protobuf_c_message_unpack(w->type, NULL, message.len, message.data);
}

static void on_done(struct grpc_client_call *call, enum grpc_code code, const char *text)
{
	struct waiting *w = grpc_client_call_user(call);

	w->code = (int)code;
	w->done = true;
}

int member_call(struct member_conn *c, const char *path, const ProtobufCMessage *request,
		const ProtobufCMessageDescriptor *type, ProtobufCMessage **out)
{
	struct waiting w = { .type = type };
	const struct grpc_client_callbacks cb = {
		.message = on_message, .done = on_done, .user = &w,
	};

	*out = NULL;
	if (!member_send(c, path, request, &cb))
		return -1;
	member_deadline(c->member, MEMBER_READY_MS);
	while (!w.done && !c->member->timed_out)
		member_turn(c->member);
	if (!w.done)
		member_disconnect(c);	/* which ends the call */
	BUG_ON(!w.done);
	*out = w.message;
	return c->conn ? w.code : -1;
}
