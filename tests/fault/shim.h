/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The system calls that touch files, in the hands of a test.
 *
 * shim.c defines open(), pwrite(), fsync() and the like, so that all that is in the
 * process calls it: libmvcc, Berkeley DB inside its shared library, the log. Linked
 * into a test, or loaded into kvd with LD_PRELOAD. Calls about files below one
 * directory, the root, are counted, can be made to fail, to end the process, or to
 * be written down in a trace, from which image.c makes what a disk would hold after
 * a loss of power. Everything else passes through.
 *
 * The trace is a file that is only ever appended to, one record with one write, so
 * that several threads, and another process that adds marks, share it. The root is
 * empty when a trace begins.
 */
#ifndef FAULT_SHIM_H
#define FAULT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shim_class {
	SHIM_READ = 1,		/* read, pread, readv */
	SHIM_WRITE = 2,		/* write, pwrite, fallocate */
	SHIM_SYNC = 4,		/* fsync, fdatasync; of directories too */
	SHIM_OPEN = 8,		/* open, mkdir */
	SHIM_RENAME = 16,
	SHIM_UNLINK = 32,
	SHIM_TRUNCATE = 64,
	SHIM_ALL = 127,
};

enum shim_what {
	SHIM_FAIL,		/* gives -1 and errno */
	SHIM_SHORT,		/* a write writes half, and says so; other calls pass */
	SHIM_EXIT,		/* ends the process before the call */
};

#define SHIM_EXIT_STATUS 77

struct shim_fault {
	unsigned int classes;
	long at;		/* which call of these, from 1 on; 0: none */
	bool sticky;		/* that one and all after it */
	enum shim_what what;
	int error;
};

/* From now on, calls below @root count; @fault is copied, NULL for none. */
void shim_begin(const char *root, const struct shim_fault *fault);
/* And are written down; @fd is open for appending. */
void shim_trace(int fd);
void shim_end(void);
/* How many calls of the classes there were, and how many failed. */
long shim_calls(void);
long shim_failed(void);
/* The first one that failed, in words. */
const char *shim_which(void);

enum trace_type {
	TRACE_CREATE = 1,	/* file, name */
	TRACE_MKDIR,		/* name */
	TRACE_WRITE,		/* file, offset, data */
	TRACE_TRUNCATE,		/* file, offset: the new length */
	TRACE_SYNC,		/* file */
	TRACE_SYNC_DIR,		/* name */
	TRACE_RENAME,		/* data: the old name; name */
	TRACE_UNLINK,		/* name */
	TRACE_MARK,		/* data; the test's own */
};

#define TRACE_MAGIC 0x4b465452u

/* Followed by the name, without a zero, the data, and zeroes up to a multiple of 8.
 * Names are relative to the root, which itself has the empty name. */
struct trace_head {
	uint32_t magic, type;
	uint32_t file, name_len;
	uint64_t offset, data_len;
};

static inline size_t trace_size(const struct trace_head *head)
{
	return (sizeof(*head) + head->name_len + head->data_len + 7) & ~(size_t)7;
}

/* Adds a record, with one write. Negative errno. */
int trace_add(int fd, const struct trace_head *head, const void *name, const void *data);
void trace_mark(int fd, const void *data, size_t len);

#endif
