// SPDX-License-Identifier: Apache-2.0
#include "ctl/ctl.h"

#include <locale.h>
#include <signal.h>

extern char **environ;

int main(int argc, char **argv)
{
	struct ctl ctl = { .in = stdin, .out = stdout, .err = stderr, .environ_ = environ };
	uv_loop_t loop;
	int status;

	/* text_quote() asks which letters can be printed. */
	setlocale(LC_CTYPE, "C.UTF-8");
	/* A connection that is closed must not end the program. */
	signal(SIGPIPE, SIG_IGN);
	if (uv_loop_init(&loop)) {
		fputs("kvctl: cannot make an event loop\n", stderr);
		return CTL_ERROR;
	}
	ctl.loop = &loop;
	status = ctl_main(&ctl, argc, argv);
	uv_loop_close(&loop);
	return status ? status : ctl_flush(&ctl);
}
