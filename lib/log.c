/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "include/bug.h"

#define LOG_OUTPUTS_MAX 8

/* A line is built here and is never longer; what does not fit is left out, and the
 * line says so. LOG_LINE_END is kept free for that. */
#define LOG_LINE_MAX 8192
#define LOG_LINE_END 32
#define LOG_NUMBER_MAX 24	/* a number, true or false, with quotes */

static const char *const level_names[] = {
	[LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn",
	[LOG_ERROR] = "error", [LOG_PANIC] = "panic", [LOG_FATAL] = "fatal",
};

static _Atomic int log_level = LOG_INFO;

/* The outputs; the lock also keeps a line that takes two writes in one piece. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	char *names;		/* the list given, cut at its commas */
	int fds[LOG_OUTPUTS_MAX];
	size_t n;
} outputs = { .fds = { STDERR_FILENO }, .n = 1 };

const char *log_strerror(int err)
{
	const char *text = strerrordesc_np(err < 0 ? -err : err);

	return text ? text : "unknown error";
}

int log_level_parse(const char *name, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (strcmp(name, level_names[i]))
			continue;
		*out = (enum log_level)i;
		return 0;
	}
	return -EINVAL;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

/* --- outputs -------------------------------------------------------------------- */

static void outputs_close(void)
{
	for (size_t i = 0; i < outputs.n; i++)
		if (outputs.fds[i] > STDERR_FILENO)
			close(outputs.fds[i]);
	outputs.n = 0;
}

static int output_open(const char *name)
{
	int fd;

	if (!strcmp(name, "stderr") || !strcmp(name, "default"))
		return STDERR_FILENO;
	if (!strcmp(name, "stdout"))
		return STDOUT_FILENO;
	fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
	return fd < 0 ? -errno : fd;
}

/* Opens the names in outputs.names one after the other. */
static int outputs_open(const char **bad)
{
	char *rest = outputs.names, *name;
	bool several = strchr(rest, ',');
	int fd;

	while ((name = strsep(&rest, ","))) {
		*bad = name;
		if (outputs.n == LOG_OUTPUTS_MAX)
			return -E2BIG;
		/* as etcd: "default" stands alone */
		if (!*name || (several && !strcmp(name, "default")))
			return -EINVAL;
		fd = output_open(name);
		if (fd < 0)
			return fd;
		outputs.fds[outputs.n++] = fd;
	}
	return 0;
}

/* After a failure the log goes to the standard error, so that it can be told. */
static void outputs_reset(void)
{
	outputs_close();
	outputs.fds[0] = STDERR_FILENO;
	outputs.n = 1;
}

int log_open(const char *list, const char **bad)
{
	char *names = strdup(list);
	int r;

	*bad = list;
	if (!names)
		return -ENOMEM;
	pthread_mutex_lock(&log_lock);
	outputs_close();
	free(outputs.names);
	outputs.names = names;
	r = outputs_open(bad);
	if (r < 0)
		outputs_reset();
	pthread_mutex_unlock(&log_lock);
	return r;
}

void log_close(void)
{
	pthread_mutex_lock(&log_lock);
	outputs_reset();
	free(outputs.names);
	outputs.names = NULL;
	pthread_mutex_unlock(&log_lock);
}

/* --- a line --------------------------------------------------------------------- */

struct line {
	size_t len;
	bool cut;
	char text[LOG_LINE_MAX];
};

/* Adds @n bytes whole or, where they do not fit, not at all. */
static bool line_add(struct line *line, const char *s, size_t n)
{
	if (line->cut || n > LOG_LINE_MAX - LOG_LINE_END - line->len) {
		line->cut = true;
		return false;
	}
	memcpy(line->text + line->len, s, n);
	line->len += n;
	return true;
}

static __printf(2, 3) void line_addf(struct line *line, const char *fmt, ...)
{
	char text[64];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	BUG_ON(n < 0 || (size_t)n >= sizeof(text));
	line_add(line, text, (size_t)n);
}

/* Length of the UTF-8 character at the front of @s (RFC 3629), 0 where there is none. */
static size_t utf8_len(struct slice s)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t c = s.data[0];
	size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
	uint32_t code = n == 1 ? c : c & (0x7f >> n);

	if (n == 0 || n > s.len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (s.data[i] >> 6 != 2)
			return 0;
		code = code << 6 | (s.data[i] & 0x3f);
	}
	if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return n;
}

/* Adds the character at the front of @s as it stands in a JSON string; what is not
 * UTF-8 becomes U+FFFD, byte by byte. Returns how many bytes of @s that took. */
static size_t line_add_char(struct line *line, struct slice s)
{
	size_t n = utf8_len(s);
	uint8_t c = s.data[0];

	if (n == 0)
		line_add(line, "\\ufffd", 6);
	else if (c == '"' || c == '\\')
		line_addf(line, "\\%c", c);
	else if (c == '\n')
		line_add(line, "\\n", 2);
	else if (c == '\r')
		line_add(line, "\\r", 2);
	else if (c == '\t')
		line_add(line, "\\t", 2);
	else if (c < 0x20 || c == 0x7f)
		line_addf(line, "\\u%04x", c);
	else
		line_add(line, (const char *)s.data, n);
	return n ? n : 1;
}

/* Adds @s as a JSON string. One that is cut still gets its closing quote. */
static void line_add_string(struct line *line, struct slice s)
{
	if (!line_add(line, "\"", 1))
		return;
	while (s.len && !line->cut) {
		size_t n = line_add_char(line, s);

		s = slice_of(s.data + n, s.len - n);
	}
	line->text[line->len++] = '"';
}

static void line_add_value(struct line *line, const struct log_field *f)
{
	switch (f->type) {
	case LOG_FIELD_STR:
		line_add_string(line, slice_str(f->str ? f->str : ""));
		break;
	case LOG_FIELD_BYTES:
		line_add_string(line, f->bytes);
		break;
	case LOG_FIELD_I64:
		line_addf(line, "%" PRId64, f->i64);
		break;
	case LOG_FIELD_U64:
		line_addf(line, "%" PRIu64, f->u64);
		break;
	case LOG_FIELD_HEX:
		line_addf(line, "\"%" PRIx64 "\"", f->u64);
		break;
	case LOG_FIELD_BOOL:
		line_addf(line, "%s", f->u64 ? "true" : "false");
		break;
	}
}

/* Adds ,"key":value; where not even the beginning fits, nothing. */
static void line_add_field(struct line *line, const struct log_field *f)
{
	size_t before = line->len;

	line_add(line, ",", 1);
	line_add_string(line, slice_str(f->key));
	line_add(line, ":", 1);
	if (line->cut || LOG_LINE_MAX - LOG_LINE_END - line->len < LOG_NUMBER_MAX) {
		line->cut = true;
		line->len = before;
		return;
	}
	line_add_value(line, f);
}

static void line_add_time(struct line *line)
{
	struct timespec now;
	struct tm tm;
	char date[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	line_addf(line, ",\"ts\":\"%s.%06ldZ\"", date, now.tv_nsec / 1000);
}

static void line_end(struct line *line)
{
	static const char cut[] = ",\"truncated\":true";
	static const char end[] = "}\n";

	if (line->cut) {
		memcpy(line->text + line->len, cut, sizeof(cut) - 1);
		line->len += sizeof(cut) - 1;
	}
	memcpy(line->text + line->len, end, sizeof(end) - 1);
	line->len += sizeof(end) - 1;
	BUG_ON(line->len > LOG_LINE_MAX);
}

/* A log that cannot be written has nobody to be told: the line is lost. */
static void write_all(int fd, const char *text, size_t n)
{
	ssize_t r;

	while (n) {
		r = write(fd, text, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return;
		text += r;
		n -= (size_t)r;
	}
}

void log_line(enum log_level level, const char *caller, const char *msg,
	      const struct log_field *fields, size_t n)
{
	struct line line;
	int saved = errno;

	BUG_ON((size_t)level >= ARRAY_SIZE(level_names));
	if ((int)level < atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	line.len = 0;
	line.cut = false;
	line_addf(&line, "{\"level\":\"%s\"", level_names[level]);
	line_add_time(&line);
	line_add_field(&line, &LOG_STR("caller", caller));
	line_add_field(&line, &LOG_STR("msg", msg));
	for (size_t i = 0; i < n; i++)
		line_add_field(&line, &fields[i]);
	line_end(&line);
	pthread_mutex_lock(&log_lock);
	for (size_t i = 0; i < outputs.n; i++)
		write_all(outputs.fds[i], line.text, line.len);
	pthread_mutex_unlock(&log_lock);
	errno = saved;
}
