// SPDX-License-Identifier: Apache-2.0
/*
 * Talking to the cluster: one call at a time, the loop run until it is answered.
 */
#include "ctl/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

int ctl_fail(struct ctl *ctl, enum ctl_exit status, const char *fmt, ...)
{
	va_list args;

	fputs("Error: ", ctl->err);
	va_start(args, fmt);
	vfprintf(ctl->err, fmt, args);
	va_end(args);
	fputc('\n', ctl->err);
	return (int)status;
}

int ctl_flush(struct ctl *ctl)
{
	if (!fflush(ctl->out))
		return 0;
	/* The reader is gone: end as it expects, without a word. */
	if (errno == EPIPE) {
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	return ctl_fail(ctl, CTL_IO, "standard output: %s", strerror(errno));
}

unsigned ctl_timeout_ms(const struct ctl *ctl)
{
	int64_t ms = ctl->line.opt.command_timeout / 1000000;

	return ms < 1 ? 1 : (unsigned)MIN(ms, (int64_t)INT32_MAX);
}

static char *copy_trimmed(const char *from, size_t len)
{
	while (len && isspace((unsigned char)*from)) {
		from++;
		len--;
	}
	while (len && isspace((unsigned char)from[len - 1]))
		len--;
	return strndup(from, len);
}

ssize_t ctl_endpoints(const struct ctl *ctl, char ***out)
{
	const char *list = ctl->line.opt.endpoints;
	char **endpoints;
	size_t n = 1, i = 0;

	for (const char *p = list; *p; p++)
		n += *p == ',';
	endpoints = calloc(n, sizeof(*endpoints));
	if (!endpoints)
		return -ENOMEM;
	for (; i < n; i++) {
		size_t len = strcspn(list, ",");

		endpoints[i] = copy_trimmed(list, len);
		if (!endpoints[i]) {
			ctl_endpoints_free(endpoints, i);
			return -ENOMEM;
		}
		list += len + 1;
	}
	*out = endpoints;
	return (ssize_t)n;
}

void ctl_endpoints_free(char **endpoints, size_t n)
{
	while (n--)
		free(endpoints[n]);
	free(endpoints);
}

int ctl_client(struct ctl *ctl, char *const *endpoints, size_t n, struct client **out)
{
	int64_t dial_ms = ctl->line.opt.dial_timeout / 1000000;
	struct client_config config = {
		.loop = ctl->loop,
		.endpoints = (const char *const *)endpoints,
		.n_endpoints = n,
		.dial_timeout_ms = (unsigned)MIN(dial_ms, (int64_t)INT32_MAX),
		.timeout_ms = ctl_timeout_ms(ctl),
	};
	char why[256];

	if (client_new(&config, out, why, sizeof(why)))
		return ctl_fail(ctl, CTL_BAD_CONNECTION, "--endpoints: %s", why);
	return 0;
}

int ctl_connect(struct ctl *ctl)
{
	char **endpoints;
	ssize_t n;
	int status;

	if (ctl->client)
		return 0;
	n = ctl_endpoints(ctl, &endpoints);
	if (n < 0)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	status = ctl_client(ctl, endpoints, (size_t)n, &ctl->client);
	ctl_endpoints_free(endpoints, (size_t)n);
	return status;
}

void ctl_error_text(const struct client_result *result, char *out, size_t size)
{
	/* What the server says in etcd's own words stands for itself; so does the
	 * end of our own patience. */
	if (!strncmp(result->text, "etcdserver: ", 12) ||
	    (result->code == GRPC_DEADLINE_EXCEEDED && !strncmp(result->text, "context ", 8)))
		snprintf(out, size, "%s", result->text);
	else
		snprintf(out, size, "rpc error: code = %s desc = %s",
			 grpc_code_name(result->code), result->text);
}

struct ctl_waiting {
	struct ctl *ctl;
	const struct ctl_call *call;
	bool done;
	int status;
};

static int call_failed(struct ctl *ctl, const struct ctl_call *call,
		       const struct client_result *result)
{
	enum ctl_exit status = call->failed ?: CTL_ERROR;
	char text[1024];

	ctl_error_text(result, text, sizeof(text));
	if (result->code == GRPC_DEADLINE_EXCEEDED && *client_last_error(ctl->client))
		fprintf(ctl->err, "kvctl: %s\n", client_last_error(ctl->client));
	if (result->unknown)
		fputs("kvctl: the request was sent; whether it took effect is not known\n",
		      ctl->err);
	return ctl_fail(ctl, status, "%s%s%s", call->before ?: "", text, call->after ?: "");
}

static void call_done(void *user, const struct client_result *result)
{
	struct ctl_waiting *waiting = user;
	struct ctl *ctl = waiting->ctl;

	waiting->done = true;
	if (result->code != GRPC_OK)
		waiting->status = call_failed(ctl, waiting->call, result);
	else
		waiting->status = waiting->call->answer(ctl, result->response, waiting->call->arg);
}

int ctl_call(struct ctl *ctl, const struct ctl_call *call)
{
	struct ctl_waiting waiting = { .ctl = ctl, .call = call };
	int status = ctl_connect(ctl);

	if (status)
		return status;
	if (client_call(ctl->client, call->method, call->request, ctl_timeout_ms(ctl),
			call_done, &waiting, NULL))
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	while (!waiting.done)
		uv_run(ctl->loop, UV_RUN_ONCE);
	return waiting.status;
}
