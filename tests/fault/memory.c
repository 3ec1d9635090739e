// SPDX-License-Identifier: Apache-2.0
/*
 * The n-th allocation fails.
 *
 *	memory [STRIDE [SEED [FIRST]]]
 *
 * Of libmvcc's or of Berkeley DB's, once or for good, at each point of a history; see
 * points.h. The store must say -ENOMEM, or not have needed it. In memory, all that was
 * allocated must be free at the end, which the leak sanitizer sees.
 *
 * Berkeley DB itself crashes at some of its own allocations. That is an end like any
 * other, as long as the disk is right; they are named.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/points.h"

#define STRIDE 97

static const struct fault_kind kinds[] = {
	{ "in memory, once", .in_memory = true, .fault = &(const bool){ false } },
	{ "in memory, for good", .in_memory = true, .fault = &(const bool){ true } },
	{ "on disk, once", .fault = &(const bool){ false } },
	{ "on disk, for good", .fault = &(const bool){ true } },
};

/* --- allocation ----------------------------------------------------------- */

static struct {
	struct attempt *attempt;	/* NULL: nothing fails */
	bool sticky;
	long calls;
} heap;

static bool fails(void)
{
	if (!heap.attempt || ++heap.calls < heap.attempt->at)
		return false;
	if (heap.calls > heap.attempt->at && !heap.sticky)
		return false;
	heap.attempt->trace->met++;
	return true;
}

/* The linker has all calls of libmvcc come here (--wrap), and it has those of Berkeley DB. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
	char *p = __wrap_malloc(strlen(s) + 1);

	if (p)
		memcpy(p, s, strlen(s) + 1);
	return p;
}

/* --- crashes ---------------------------------------------------------------- */

#define FRAMES 16

static bool is_of(const void *frame, const char *library)
{
	Dl_info where;

	return dladdr(frame, &where) && strstr(where.dli_fname, library);
}

/* Excused is what crashes inside Berkeley DB, or below it in libc. */
static void on_crash(int signal_number)
{
	struct trace *t = heap.attempt ? heap.attempt->trace : NULL;
	void *frames[FRAMES];
	int n = backtrace(frames, FRAMES), i = 0;
	Dl_info where;

	heap.attempt = NULL;
	/* first comes this function, then the one of libc that has called it */
	while (i < n && !is_of(frames[i], "/libc.so"))
		i++;
	while (i < n && (is_of(frames[i], "/libc.so") || is_of(frames[i], "/libasan.so")))
		i++;
	if (t && i < n && is_of(frames[i], "/libdb-")) {
		dladdr(frames[i], &where);
		snprintf(t->which, sizeof(t->which), "in Berkeley DB, %s(), while %s",
			 where.dli_sname ? where.dli_sname : "?", t->progress.what);
		t->excused = true;
		_exit(0);
	}
	signal(signal_number, SIG_DFL);
}

/* --- the points -------------------------------------------------------------- */

static void begin(struct attempt *a)
{
	void *frames[FRAMES];

	backtrace(frames, FRAMES);	/* which allocates, the first time */
	signal(SIGSEGV, on_crash);
	heap.sticky = *(const bool *)a->kind->fault;
	heap.calls = 0;
	heap.attempt = a;
}

static void end(struct attempt *a)
{
	heap.attempt = NULL;
}

int main(int argc, char **argv)
{
	struct points points = {
		.batches = LOOKS_BATCHES, .stride = STRIDE, .begin = begin, .end = end,
		.error = -ENOMEM,
	};

	points_begin(&points, argc, argv);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		printf("# %s: %lu points\n", kinds[i].name, points_try(&points, &kinds[i]));
	return points_end(&points);
}
