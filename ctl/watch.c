// SPDX-License-Identifier: Apache-2.0
/*
 * watch: one, until the server cancels it; or with -i those that standard input asks
 * for, until it ends.
 */
#include "ctl/ctl.h"
#include "ctl/print.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

struct watching {
	struct list node;		/* session->watches */
	struct session *session;
	struct client_watch *watch;
	char **exec;			/* NULL: none; ends with NULL */
	char **owned_exec;		/* the same where it has to be freed */
};

struct session {
	struct ctl *ctl;
	struct list watches;
	bool interactive;
	bool done;
	bool over;			/* a read that is under way frees it */
	int status;

	uv_fs_t read;			/* of standard input */
	bool reading;
	char chunk[4096];
	char *line;			/* what has come of a line */
	size_t line_len;
};

static void session_end(struct session *session, int status)
{
	if (session->done)
		return;
	session->done = true;
	session->status = status;
}

/* --- a command for each event --------------------------------------------------- */

#define EVENT_VARIABLES 4

/* "NAME=" and a quoted text, malloc'ed. */
static char *quoted_variable(const char *name, struct slice value)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	fprintf(out, "%s=", name);
	text_quote(out, value);
	fclose(out);
	return text;
}

static const char *event_type(const Mvccpb__Event *event)
{
	return event->type == MVCCPB__EVENT__EVENT_TYPE__DELETE ? "DELETE" : "PUT";
}

/* The environment of kvctl and the event's four variables, which come first. */
static char **event_environ(const struct ctl *ctl, const Etcdserverpb__WatchResponse *response,
			    const Mvccpb__Event *event)
{
	static const Mvccpb__KeyValue none = MVCCPB__KEY_VALUE__INIT;
	const Mvccpb__KeyValue *kv = event->kv ?: &none;
	size_t n = 0;
	char **env;

	while (ctl->environ_[n])
		n++;
	env = calloc(n + EVENT_VARIABLES + 1, sizeof(*env));
	if (!env)
		return NULL;
	if (asprintf(&env[0], "ETCD_WATCH_REVISION=%" PRId64,
		     response->header ? response->header->revision : 0) < 0)
		env[0] = NULL;
	env[1] = quoted_variable("ETCD_WATCH_EVENT_TYPE", slice_str(event_type(event)));
	env[2] = quoted_variable("ETCD_WATCH_KEY", slice_of(kv->key.data, kv->key.len));
	env[3] = quoted_variable("ETCD_WATCH_VALUE", slice_of(kv->value.data, kv->value.len));
	memcpy(env + EVENT_VARIABLES, ctl->environ_, n * sizeof(*env));
	return env;
}

/* The command reads nothing, and gets the SIGPIPE that kvctl ignores. */
static int spawn_and_wait(char **argv, char **env, int *wait_status)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t defaults;
	pid_t pid;
	int err;

	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	err = posix_spawnp(&pid, argv[0], &actions, &attr, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (err)
		return -err;
	while (waitpid(pid, wait_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int exec_failed(struct ctl *ctl, char *const *argv, int err, int wait_status)
{
	fputs("command [", ctl->err);
	for (size_t i = 0; argv[i]; i++) {
		if (i)
			fputc(' ', ctl->err);
		text_quote(ctl->err, slice_str(argv[i]));
	}
	if (err)
		fprintf(ctl->err, "] error (%s)\n", strerror(-err));
	else if (WIFSIGNALED(wait_status))
		fprintf(ctl->err, "] error (signal: %s)\n", strsignal(WTERMSIG(wait_status)));
	else
		fprintf(ctl->err, "] error (exit status %d)\n", WEXITSTATUS(wait_status));
	return CTL_ERROR;
}

static int run_for_event(struct watching *watching, const Etcdserverpb__WatchResponse *response,
			 const Mvccpb__Event *event)
{
	struct ctl *ctl = watching->session->ctl;
	char **env = event_environ(ctl, response, event);
	int err = -ENOMEM, wait_status = 0;

	fflush(ctl->out);
	if (env && env[0] && env[1] && env[2] && env[3])
		err = spawn_and_wait(watching->exec, env, &wait_status);
	for (size_t i = 0; env && i < EVENT_VARIABLES; i++)
		free(env[i]);
	free(env);
	if (err || wait_status)
		return exec_failed(ctl, watching->exec, err, wait_status);
	return 0;
}

/* --- what the watch tells ------------------------------------------------------- */

static void watch_events(void *user, const Etcdserverpb__WatchResponse *response)
{
	struct watching *watching = user;
	struct session *session = watching->session;
	struct ctl *ctl = session->ctl;
	int status;

	if (session->done)
		return;
	if (!response->n_events && response->header)
		fprintf(ctl->out, "progress notify: %" PRId64 "\n", response->header->revision);
	status = ctl_show(ctl, SHOW_WATCH, response);
	for (size_t i = 0; !status && watching->exec && i < response->n_events; i++)
		status = run_for_event(watching, response, response->events[i]);
	if (status)
		session_end(session, status);
}

/* Why, in the words of clientv3. */
static void put_reason(FILE *out, const char *reason, int64_t compact_revision)
{
	if (compact_revision)
		fputs("etcdserver: mvcc: required revision has been compacted", out);
	else if (!*reason)
		fputs("etcdserver: mvcc: required revision is a future revision", out);
	else if (!strncmp(reason, "etcdserver: ", 12))
		fputs(reason, out);
	else
		fprintf(out, "rpc error: code = FailedPrecondition desc = %s", reason);
}

static void watching_free(struct watching *watching)
{
	list_del(&watching->node);
	for (size_t i = 0; watching->owned_exec && watching->owned_exec[i]; i++)
		free(watching->owned_exec[i]);
	free(watching->owned_exec);
	free(watching);
}

static void watch_canceled(void *user, const char *reason, int64_t compact_revision)
{
	struct watching *watching = user;
	struct session *session = watching->session;
	struct ctl *ctl = session->ctl;
	const Etcdserverpb__WatchResponse *response = client_watch_response(watching->watch);
	int status = 0;

	fputs("watch was canceled (", ctl->err);
	put_reason(ctl->err, reason, compact_revision);
	fputs(")\n", ctl->err);
	if (response)
		status = ctl_show(ctl, SHOW_WATCH, response);
	watching_free(watching);
	if (status)
		session_end(session, status);
	else if (!session->interactive)
		session_end(session, ctl_fail(ctl, CTL_INTERRUPTED,
					      "watch is canceled by the server"));
}

/* --- opening one ---------------------------------------------------------------- */

static const char bad_args[] = "bad number of arguments";
static const char bad_args_env[] =
	"bad number of arguments (found conflicting environment key)";
static const char bad_args_separator[] =
	"bad number of arguments (found separator --, but no commands)";

static const char *env_get(const struct ctl *ctl, const char *name)
{
	size_t n = strlen(name);

	for (char **entry = ctl->environ_; *entry; entry++)
		if (!strncmp(*entry, name, n) && (*entry)[n] == '=')
			return *entry + n + 1;
	return "";
}

/* The key and the end from the arguments or the environment; a text where that fails. */
static const char *take_key(struct ctl *ctl, struct ctl_line *line)
{
	const char *key = env_get(ctl, "ETCDCTL_WATCH_KEY");
	const char *end = env_get(ctl, "ETCDCTL_WATCH_RANGE_END");
	struct slice *at;

	if (!*key)
		return line->args.n ? NULL : bad_args;
	if (line->args.n)
		return bad_args_env;
	at = calloc(2, sizeof(*at));
	if (!at)
		return "out of memory";
	at[0] = slice_str(key);
	at[1] = slice_str(end);
	free(line->args.at);
	line->args.at = at;
	line->args.n = *end ? 2 : 1;
	return NULL;
}

static int open_watch(struct session *session, const struct ctl_line *line, char **exec,
		      struct watching **out)
{
	const struct client_watch_callbacks callbacks = {
		.events = watch_events, .canceled = watch_canceled,
	};
	struct client_watch_callbacks own = callbacks;
	struct client_watch_args args = {
		.start_revision = line->opt.rev, .prev_kv = line->opt.prev_kv,
		.progress_notify = line->opt.progress_notify,
	};
	struct watching *watching = calloc(1, sizeof(*watching));
	struct ctl_range range;
	struct slice owned = { 0 };
	int err = -ENOMEM;

	if (watching)
		err = ctl_make_range(line, &owned, &range);
	if (!err) {
		args.key = range.key;
		args.range_end = range.end;
		own.user = watching;
		watching->session = session;
		watching->exec = exec;
		err = client_watch_open(session->ctl->client, &args, &own, &watching->watch);
	}
	free((void *)owned.data);
	if (err) {
		free(watching);
		return err;
	}
	list_add_tail(&session->watches, &watching->node);
	*out = watching;
	return 0;
}

/* --- lines of standard input ---------------------------------------------------- */

static const struct ctl_command *watch_command(void)
{
	const struct ctl_command *c = ctl_commands;

	while (c->run != ctl_run_watch)
		c++;
	return c;
}

/* The words after "--" as an argv of its own; NULL: there are none. */
static char **copy_exec(const struct ctl_args *words, size_t from)
{
	char **argv = calloc(words->n - from + 1, sizeof(*argv));

	for (size_t i = from; argv && i < words->n; i++) {
		argv[i - from] = strndup((const char *)words->at[i].data, words->at[i].len);
		if (!argv[i - from])
			break;
	}
	return argv;
}

static int watch_asked(struct session *session, const struct ctl_args *words, const char *text)
{
	struct ctl_args own = { .at = words->at + 1 };
	struct ctl_parse_args parse = { .command = watch_command(), .words = &own };
	struct ctl *ctl = session->ctl;
	struct watching *watching;
	struct ctl_line line;
	const char *wrong;
	char why[256];
	size_t i = 1;

	while (i < words->n && !slice_eq(words->at[i], SLICE_LIT("--")))
		i++;
	own.n = i - 1;
	if (i + 1 == words->n)
		return ctl_fail(ctl, CTL_BAD_ARGS, "%s", bad_args_separator);
	if (ctl_parse(&parse, &line, why, sizeof(why)))
		return ctl_fail(ctl, CTL_BAD_ARGS, "%s", why);
	wrong = take_key(ctl, &line);
	if (wrong) {
		ctl_line_release(&line);
		return ctl_fail(ctl, CTL_BAD_ARGS, "%s", wrong);
	}
	if (line.args.n == 2 && line.opt.prefix) {
		fprintf(ctl->err, "Invalid command %s (`range_end` and `--prefix` are mutually "
			"exclusive)\n", text);
	} else if (!open_watch(session, &line, NULL, &watching) && i < words->n) {
		watching->exec = watching->owned_exec = copy_exec(words, i + 1);
	}
	ctl_line_release(&line);
	return 0;
}

static void progress_asked(struct session *session)
{
	struct watching *watching;

	list_for_each(watching, &session->watches, node)
		client_watch_progress(watching->watch);
}

static void line_came(struct session *session, const char *text)
{
	struct ctl *ctl = session->ctl;
	struct ctl_args words;
	int status = 0;

	if (ctl_split(slice_str(text), &words)) {
		session_end(session, ctl_fail(ctl, CTL_INVALID_INPUT, "invalid syntax"));
		return;
	}
	if (!words.n)
		fprintf(ctl->err, "Invalid command: %s (watch and progress supported)\n", text);
	else if (slice_eq(words.at[0], SLICE_LIT("progress")))
		progress_asked(session);
	else if (!slice_eq(words.at[0], SLICE_LIT("watch")))
		fprintf(ctl->err, "Invalid command %s (only support watch)\n", text);
	else if (words.n < 2 && !*env_get(ctl, "ETCDCTL_WATCH_KEY"))
		fprintf(ctl->err, "Invalid command %s (command type or key is not provided)\n",
			text);
	else
		status = watch_asked(session, &words, text);
	ctl_args_release(&words);
	if (status)
		session_end(session, status);
}

/* Takes the whole lines out of what has come. */
static void take_lines(struct session *session, struct slice bytes)
{
	while (bytes.len && !session->done) {
		const uint8_t *end = memchr(bytes.data, '\n', bytes.len);
		size_t n = end ? (size_t)(end - bytes.data) : bytes.len;
		char *line = realloc(session->line, session->line_len + n + 1);

		if (!line) {
			session_end(session, ctl_fail(session->ctl, CTL_ERROR, "out of memory"));
			return;
		}
		session->line = line;
		memcpy(line + session->line_len, bytes.data, n);
		session->line_len += n;
		line[session->line_len] = '\0';
		n += end != NULL;
		bytes = slice_of(bytes.data + n, bytes.len - n);
		if (!end)
			continue;
		session->line_len = 0;
		line_came(session, line);
	}
}

static void read_more(struct session *session);

static void on_read(uv_fs_t *req)
{
	struct session *session = req->data;
	ssize_t n = req->result;

	uv_fs_req_cleanup(req);
	session->reading = false;
	if (session->over) {
		free(session);
		return;
	}
	if (n > 0)
		take_lines(session, slice_of(session->chunk, (size_t)n));
	else
		session_end(session, ctl_fail(session->ctl, CTL_INVALID_INPUT,
					      "error reading watch request line: %s",
					      n ? uv_strerror((int)n) : "EOF"));
	if (!session->done)
		read_more(session);
}

/* On libuv's pool: standard input may be a file, which a loop cannot wait for. */
static void read_more(struct session *session)
{
	uv_buf_t buf = uv_buf_init(session->chunk, sizeof(session->chunk));

	session->read.data = session;
	session->reading = !uv_fs_read(session->ctl->loop, &session->read, fileno(session->ctl->in),
				       &buf, 1, -1, on_read);
	if (!session->reading)
		session_end(session, ctl_fail(session->ctl, CTL_ERROR, "cannot read"));
}

/* --- the command ---------------------------------------------------------------- */

static int run_session(struct session *session)
{
	int status;

	while (!session->done)
		uv_run(session->ctl->loop, UV_RUN_ONCE);
	status = session->status;
	while (!list_empty(&session->watches)) {
		struct watching *watching =
			list_first(&session->watches, struct watching, node);

		client_watch_cancel(watching->watch);
		watching_free(watching);
	}
	free(session->line);
	session->over = true;
	if (!session->reading)
		free(session);
	return status;
}

/* Checks the arguments of a watch that is not interactive. */
static int check_args(struct ctl *ctl)
{
	const char *wrong;

	if (ctl->exec && !*ctl->exec)
		return ctl_fail(ctl, CTL_BAD_ARGS, "%s", bad_args_separator);
	wrong = take_key(ctl, &ctl->line);
	if (wrong)
		return ctl_fail(ctl, CTL_BAD_ARGS, "%s", wrong);
	if (ctl->line.args.n == 2 && ctl->line.opt.prefix)
		return ctl_fail(ctl, CTL_BAD_ARGS,
				"`range_end` and `--prefix` are mutually exclusive");
	return 0;
}

static int watch_session(struct ctl *ctl)
{
	struct session *session = calloc(1, sizeof(*session));
	struct watching *watching;

	if (!session)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	session->ctl = ctl;
	session->interactive = ctl->line.opt.interactive;
	list_init(&session->watches);
	if (session->interactive)
		read_more(session);
	else if (open_watch(session, &ctl->line, ctl->exec, &watching))
		session_end(session, ctl_fail(ctl, CTL_ERROR, "out of memory"));
	return run_session(session);
}

int ctl_run_watch(struct ctl *ctl)
{
	const char *end = env_get(ctl, "ETCDCTL_WATCH_RANGE_END");
	int status = 0;

	if (*end && !*env_get(ctl, "ETCDCTL_WATCH_KEY"))
		return ctl_fail(ctl, CTL_BAD_ARGS, "ETCDCTL_WATCH_KEY is empty but got "
				"ETCDCTL_WATCH_RANGE_END=\"%s\"", end);
	if (!ctl->line.opt.interactive)
		status = check_args(ctl);
	if (!status)
		status = ctl_connect(ctl);
	return status ? status : watch_session(ctl);
}
