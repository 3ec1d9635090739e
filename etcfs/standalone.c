// SPDX-License-Identifier: Apache-2.0
#include "etcfs/standalone.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"

#define READY_DEADLINE_MS 30000
#define STOP_DEADLINE_MS 10000
#define POLL_MS 10

struct standalone {
	pid_t pid;
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char program[PATH_MAX];
	struct sockaddr_un address;
	char endpoint[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof("unix://")];
};

static void pause_ms(long ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* The kvd beside this program; else the one that PATH leads to. */
static void find_program(const struct config *config, char program[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	snprintf(program, PATH_MAX, "%s", *config->kvd ? config->kvd : "kvd");
	if (*config->kvd || n < 0)
		return;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash || slash - self + sizeof("/kvd") > sizeof(self))
		return;
	memcpy(slash, "/kvd", sizeof("/kvd"));
	if (!access(self, X_OK))
		memcpy(program, self, strlen(self) + 1);
}

static bool accepts(const struct standalone *s)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = fd >= 0 && !connect(fd, (const struct sockaddr *)&s->address,
				       sizeof(s->address));

	if (fd >= 0)
		close(fd);
	return yes;
}

/* In the child, until it is kvd. */
static void become_kvd(const struct standalone *s, pid_t parent)
{
	char data[PATH_MAX], peer[PATH_MAX], cluster[PATH_MAX + 16], log[PATH_MAX];
	int fd;

	/* the signals of a terminal are for etcfs, which then stops us */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	snprintf(data, sizeof(data), "%s/data", s->dir);
	snprintf(peer, sizeof(peer), "unix://%s/peer.sock", s->dir);
	snprintf(cluster, sizeof(cluster), "default=%s", peer);
	snprintf(log, sizeof(log), "%s/kvd.log", s->dir);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
	}
	execlp(s->program, s->program, "--data-dir", data, "--listen-client-urls", s->endpoint,
	       "--advertise-client-urls", s->endpoint, "--listen-peer-urls", peer,
	       "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, (char *)NULL);
	fprintf(stderr, "%s: %s\n", s->program, strerror(errno));
	_exit(127);
}

static int wait_ready(struct standalone *s, char *why, size_t why_size)
{
	int status;

	for (long waited = 0; waited < READY_DEADLINE_MS; waited += POLL_MS) {
		if (accepts(s))
			return 0;
		if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
			s->pid = -1;
			snprintf(why, why_size, "%s ended at once; its log is %s/kvd.log",
				 s->program, s->dir);
			return -ECHILD;
		}
		pause_ms(POLL_MS);
	}
	snprintf(why, why_size, "%s does not answer; its log is %s/kvd.log", s->program, s->dir);
	return -ETIMEDOUT;
}

static int prepare(const struct config *config, struct standalone *s, char *why, size_t why_size)
{
	char dir[PATH_MAX];
	int n;

	if (mkdir(config->standalone, 0700) && errno != EEXIST) {
		snprintf(why, why_size, "%s: %s", config->standalone, log_strerror(-errno));
		return -errno;
	}
	if (!realpath(config->standalone, dir)) {
		snprintf(why, why_size, "%s: %s", config->standalone, log_strerror(-errno));
		return -errno;
	}
	s->address.sun_family = AF_UNIX;
	n = snprintf(s->address.sun_path, sizeof(s->address.sun_path), "%s/client.sock", dir);
	if (n < 0 || (size_t)n >= sizeof(s->address.sun_path)) {
		snprintf(why, why_size, "%s: too long a path for the socket in it; take a "
			 "directory with a shorter one", dir);
		return -ENAMETOOLONG;
	}
	memcpy(s->dir, dir, strlen(dir) + 1);
	snprintf(s->endpoint, sizeof(s->endpoint), "unix://%s", s->address.sun_path);
	if (accepts(s)) {
		snprintf(why, why_size, "%s: a member is running there already; mount it with "
			 "--endpoints=%s", s->dir, s->endpoint);
		return -EBUSY;
	}
	find_program(config, s->program);
	return 0;
}

int standalone_start(const struct config *config, struct standalone **out, char *why,
		     size_t why_size)
{
	struct standalone *s = calloc(1, sizeof(*s));
	pid_t parent = getpid();
	int err;

	if (!s) {
		snprintf(why, why_size, "no memory");
		return -ENOMEM;
	}
	err = prepare(config, s, why, why_size);
	if (err)
		goto free;
	s->pid = fork();
	if (!s->pid)
		become_kvd(s, parent);
	if (s->pid < 0) {
		err = -errno;
		snprintf(why, why_size, "%s", log_strerror(err));
		goto free;
	}
	err = wait_ready(s, why, why_size);
	if (!err) {
		*out = s;
		return 0;
	}
	standalone_stop(s);
	return err;
free:
	free(s);
	return err;
}

const char *standalone_endpoint(const struct standalone *standalone)
{
	return standalone->endpoint;
}

void standalone_stop(struct standalone *standalone)
{
	if (!standalone)
		return;
	if (standalone->pid > 0) {
		kill(standalone->pid, SIGTERM);
		for (long waited = 0; waited < STOP_DEADLINE_MS; waited += POLL_MS) {
			if (waitpid(standalone->pid, NULL, WNOHANG))
				goto gone;
			pause_ms(POLL_MS);
		}
		kill(standalone->pid, SIGKILL);
		waitpid(standalone->pid, NULL, 0);
	}
gone:
	free(standalone);
}
