/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines: one JSON object a line, as etcd writes them:
 *	{"level":"info","ts":"2026-01-02T15:04:05.999999Z","caller":"kvd/main.c:42",
 *	 "msg":"...","key":"value"}
 * A line is at most 8 KiB: what does not fit is left out, and "truncated":true added.
 * Fields follow the message:
 *	log_info("applied snapshot", LOG_U64("index", index), LOG_STR("path", path));
 * Safe from any thread; a line is one write.
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include <stdint.h>

#include "include/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_PANIC, LOG_FATAL };

struct log_field {
	const char *key;
	enum { LOG_FIELD_STR, LOG_FIELD_BYTES, LOG_FIELD_I64, LOG_FIELD_U64, LOG_FIELD_HEX,
	       LOG_FIELD_BOOL } type;
	union {
		const char *str;
		struct slice bytes;
		int64_t i64;
		uint64_t u64;
	};
};

#define LOG_STR(k, v)	((struct log_field){ .key = (k), .type = LOG_FIELD_STR, .str = (v) })
#define LOG_BYTES(k, v)	((struct log_field){ .key = (k), .type = LOG_FIELD_BYTES, .bytes = (v) })
#define LOG_I64(k, v)	((struct log_field){ .key = (k), .type = LOG_FIELD_I64, .i64 = (v) })
#define LOG_U64(k, v)	((struct log_field){ .key = (k), .type = LOG_FIELD_U64, .u64 = (v) })
#define LOG_HEX(k, v)	((struct log_field){ .key = (k), .type = LOG_FIELD_HEX, .u64 = (v) })
#define LOG_BOOL(k, v)	((struct log_field){ .key = (k), .type = LOG_FIELD_BOOL, .u64 = !!(v) })
#define LOG_ERR(err)	LOG_STR("error", log_strerror(err))	/* negative errno */

const char *log_strerror(int err);
/* -EINVAL: not a level's name (debug info warn error panic fatal). */
int log_level_parse(const char *name, enum log_level *out);
void log_set_level(enum log_level level);
/* "default" and "stderr", "stdout", "/dev/null" or a path (appended to); several
 * divided by commas. Negative errno, with the output that failed in *@bad. */
int log_open(const char *outputs, const char **bad);
void log_close(void);

void log_line(enum log_level level, const char *caller, const char *msg,
	      const struct log_field *fields, size_t n);

#define LOG_STRING_(x) #x
#define LOG_STRING(x) LOG_STRING_(x)
#define log_at(level, msg, ...) do {						\
	const struct log_field fields_[] = { __VA_ARGS__ };			\
	log_line((level), __FILE__ ":" LOG_STRING(__LINE__), (msg), fields_,	\
		 sizeof(fields_) / sizeof(struct log_field));			\
} while (0)
#define log_debug(msg, ...) log_at(LOG_DEBUG, msg, ##__VA_ARGS__)
#define log_info(msg, ...) log_at(LOG_INFO, msg, ##__VA_ARGS__)
#define log_warn(msg, ...) log_at(LOG_WARN, msg, ##__VA_ARGS__)
#define log_error(msg, ...) log_at(LOG_ERROR, msg, ##__VA_ARGS__)
#define log_fatal(msg, ...) log_at(LOG_FATAL, msg, ##__VA_ARGS__)

#endif
