// SPDX-License-Identifier: Apache-2.0
/*
 * Asks a server one thing, also things that no client would, and prints the answer:
 * the response, or the code and the text of the error.
 *
 *	ask URL get KEY
 *	ask URL put KEY VALUE
 *	ask URL put-of KEY BYTES	a value of so many zero bytes
 *	ask URL nest DEPTH	a transaction within a transaction, and so on
 *	ask URL deadly KEY	deletes all from KEY on, then puts KEY with ignore_value
 *	ask URL raw PATH	the bytes of standard input to the method at PATH
 *	ask URL twice PATH	the same, as two messages
 */
#include <stdlib.h>

#include "include/bug.h"
#include "include/wire.h"
#include "lib/grpc.h"
#include "lib/pb.h"
#include "lib/proto/rpc.pb-c.h"
#include "tests/diff/message.h"

#define TIMEOUT_MS 10000
#define INPUT_MAX (16u << 20)

#define PUT "/etcdserverpb.KV/Put"
#define RANGE "/etcdserverpb.KV/Range"
#define TXN "/etcdserverpb.KV/Txn"

struct question {
	const char *path;
	struct blob *request;
	bool twice;
};

static ProtobufCBinaryData bytes_of(const char *s)
{
	return (ProtobufCBinaryData){ strlen(s), (uint8_t *)(uintptr_t)s };
}

static struct question get(const char *key)
{
	Etcdserverpb__RangeRequest r = ETCDSERVERPB__RANGE_REQUEST__INIT;

	r.key = bytes_of(key);
	return (struct question){ RANGE, pb_pack_blob(&r.base), false };
}

static struct question put(const char *key, const char *value)
{
	Etcdserverpb__PutRequest r = ETCDSERVERPB__PUT_REQUEST__INIT;

	r.key = bytes_of(key);
	r.value = bytes_of(value);
	return (struct question){ PUT, pb_pack_blob(&r.base), false };
}

static struct question put_of(const char *key, const char *bytes)
{
	Etcdserverpb__PutRequest r = ETCDSERVERPB__PUT_REQUEST__INIT;
	struct blob *b;

	r.key = bytes_of(key);
	r.value.len = strtoul(bytes, NULL, 10);
	r.value.data = calloc(1, r.value.len + 1);
	BUG_ON(!r.value.data);
	b = pb_pack_blob(&r.base);
	free(r.value.data);
	return (struct question){ PUT, b, false };
}

/* From the inside out, written from the end of the buffer to its start. */
static struct question nest(const char *depth)
{
	unsigned long levels = strtoul(depth, NULL, 10);
	size_t room = levels * 2 * (1 + WIRE_VARINT_MAX), at = room;
	uint8_t *buf = malloc(room + 1), head[1 + WIRE_VARINT_MAX];
	struct blob *b;

	BUG_ON(!buf);
	for (unsigned long i = 0; i < levels; i++)
		/* RequestOp.request_txn, then TxnRequest.success */
		for (int field = 4; field >= 2; field -= 2) {
			size_t n = (size_t)(wire_put_len_field(head, (uint32_t)field, room - at) -
					    head);

			at -= n;
			memcpy(buf + at, head, n);
		}
	b = blob_copy(slice_of(buf + at, room - at));
	free(buf);
	return (struct question){ TXN, b, false };
}

static struct question deadly(const char *key)
{
	Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
	Etcdserverpb__RequestOp ops[2] = { ETCDSERVERPB__REQUEST_OP__INIT,
					   ETCDSERVERPB__REQUEST_OP__INIT };
	Etcdserverpb__RequestOp *list[2] = { &ops[0], &ops[1] };
	Etcdserverpb__DeleteRangeRequest del = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
	Etcdserverpb__PutRequest again = ETCDSERVERPB__PUT_REQUEST__INIT;

	del.key = again.key = bytes_of(key);
	del.range_end = (ProtobufCBinaryData){ 1, (uint8_t *)"" };
	again.ignore_value = 1;
	ops[0].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
	ops[0].request_delete_range = &del;
	ops[1].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
	ops[1].request_put = &again;
	txn.success = list;
	txn.n_success = 2;
	return (struct question){ TXN, pb_pack_blob(&txn.base), false };
}

static struct question raw(const char *path)
{
	struct blob *b = blob_new(INPUT_MAX);

	BUG_ON(!b);
	b->len = (uint32_t)fread(b->data, 1, INPUT_MAX, stdin);
	return (struct question){ path, b, false };
}

static struct question twice(const char *path)
{
	struct question q = raw(path);

	q.twice = true;
	return q;
}

static struct question question_of(int argc, char **argv)
{
	static const struct {
		const char *name;
		struct question (*make)(const char *arg);
	} questions[] = {
		{ "get", get }, { "nest", nest }, { "deadly", deadly }, { "raw", raw },
		{ "twice", twice },
	};

	if (argc == 5 && !strcmp(argv[2], "put"))
		return put(argv[3], argv[4]);
	if (argc == 5 && !strcmp(argv[2], "put-of"))
		return put_of(argv[3], argv[4]);
	for (size_t i = 0; argc == 4 && i < ARRAY_SIZE(questions); i++)
		if (!strcmp(argv[2], questions[i].name))
			return questions[i].make(argv[3]);
	return (struct question){ 0 };
}

/* --- asking ------------------------------------------------------------------------ */

struct asked {
	const struct question *question;
	bool done, closed;
	int status;
};

static void on_message(struct grpc_client_call *call, struct slice message)
{
	struct asked *a = grpc_client_call_user(call);
	const struct rpc *rpc = rpc_find(a->question->path);

	if (rpc)
		message_print(rpc->response, message, stdout);
}

static void on_done(struct grpc_client_call *call, enum grpc_code code, const char *text)
{
	struct asked *a = grpc_client_call_user(call);

	a->done = true;
	a->status = code != GRPC_OK;
	printf(code ? "%s: %s\n" : "%s\n", grpc_code_name(code), text);
}

static void on_closed(struct grpc_conn *conn, int error, const char *text)
{
	struct asked *a = grpc_conn_user(conn);

	if (!a->done)
		printf("no connection: %s\n", text);
	a->done = a->closed = true;
}

/* Closes what is open, and turns the loop until nothing is left in it. */
static void close_all(uv_loop_t *loop, struct asked *a, struct grpc_conn *conn)
{
	if (!a->closed)
		grpc_conn_close(conn);
	uv_run(loop, UV_RUN_DEFAULT);
	uv_loop_close(loop);
}

static int ask(const char *url, const struct question *question)
{
	struct asked a = { .question = question, .status = 1 };
	struct grpc_conn_callbacks on_conn = { .closed = on_closed, .user = &a };
	struct grpc_client_callbacks on_call = {
		.message = on_message, .done = on_done, .user = &a,
	};
	struct grpc_client_call *call;
	struct grpc_conn *conn;
	struct chain message;
	uv_loop_t loop;

	uv_loop_init(&loop);
	if (grpc_conn_open(&loop, url, &on_conn, &conn) ||
	    grpc_client_call_open(conn, question->path, &on_call, TIMEOUT_MS, &call)) {
		fprintf(stderr, "ask: no call to %s\n", url);
		return 2;
	}
	for (int i = 0; i <= question->twice; i++) {
		chain_init(&message);
		chain_append(&message, blob_slice(question->request));
		grpc_client_call_send(call, &message);
	}
	grpc_client_call_half_close(call);
	while (!a.done)
		uv_run(&loop, UV_RUN_ONCE);
	close_all(&loop, &a, conn);
	return a.status;
}

int main(int argc, char **argv)
{
	struct question question = question_of(argc, argv);
	int status;

	if (!question.request) {
		fprintf(stderr, "usage: ask URL get KEY | put KEY VALUE | "
			"put-of KEY BYTES | nest DEPTH | deadly KEY | raw PATH | twice PATH\n");
		return 2;
	}
	status = ask(argv[1], &question);
	blob_put(question.request);
	return status;
}
