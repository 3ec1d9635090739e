// SPDX-License-Identifier: Apache-2.0
/*
 * Loss of power.
 *
 *	power [CUTS [SEED]]
 *
 * Carries out a history on a store on disk while every call that touches a file is
 * written down; then, at CUTS points of that, makes the directory that a machine could
 * come up with which lost its power there, and opens it. All up to the last sync must
 * be there, and the whole must be as it was after some batch; and the rest of the
 * history can be carried out on it.
 */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/bug.h"
#include "tests/fault/cuts.h"
#include "tests/fault/model.h"
#include "tests/fault/shim.h"

#define BATCHES 60

struct power {
	struct cuts cuts;
	struct model *model;
	char store[PATH_MAX], trace[PATH_MAX], cut[PATH_MAX];
	size_t synced, started;		/* where the image is */
};

static void record(void *arg)
{
	struct power *p = arg;
	int fd = open(p->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	struct session s = { .trace = fd };

	BUG_ON(fd < 0);
	shim_begin(p->store, NULL);
	shim_trace(fd);
	if (session_open(&s, p->model, p->store) || model_run(&s, 0, BATCHES))
		exit(1);
	session_close(&s);
	shim_end();
	close(fd);
}

static void mark(struct cuts *cuts, const void *data, size_t len)
{
	struct power *p = container_of(cuts, struct power, cuts);
	struct { char what[8]; uint64_t batch; } mark;

	BUG_ON(len != sizeof(mark));
	memcpy(&mark, data, sizeof(mark));
	if (mark.what[0] == 's')
		p->synced = mark.batch;
	else if (mark.what[0] == 'b')
		p->started = mark.batch;
}

static bool right(struct cuts *cuts, char *why, size_t why_size)
{
	struct power *p = container_of(cuts, struct power, cuts);
	struct verdict v;

	verify(p->model, p->cut, true, &v);
	snprintf(why, why_size, "%s: batch %zu, synced %zu, started %zu: %s (%d)",
		 v.kind == REFUSED ? "refused" : "wrong", v.batch, p->synced, p->started, v.text,
		 v.error);
	return v.kind == RIGHT && v.batch >= p->synced && v.batch <= p->started;
}

int main(int argc, char **argv)
{
	size_t cuts = argc > 1 ? strtoul(argv[1], NULL, 10) : 60;
	struct power p = {
		.cuts = {
			.random = argc > 2 ? strtoul(argv[2], NULL, 10) : 1, .mark = mark,
			.right = right,
		},
	};
	unsigned long failed;

	p.model = model_new(p.cuts.random, BATCHES);
	snprintf(p.store, sizeof(p.store), "%s/store", test_dir());
	snprintf(p.trace, sizeof(p.trace), "%s/trace", test_dir());
	snprintf(p.cut, sizeof(p.cut), "%s/cut", test_dir());
	p.cuts.dir = p.cut;
	BUG_ON(mkdir(p.store, 0700) || mkdir(p.cut, 0700));
	BUG_ON(in_child(record, &p));
	BUG_ON(image_open(p.trace, &p.cuts.image));
	cuts_make(&p.cuts, cuts);
	failed = cuts_end(&p.cuts);
	image_close(p.cuts.image);
	model_free(p.model);
	return failed != 0;
}
