/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that cannot be used safely do not compile. Included into every source by
 * the makefile; the system headers that declare these come first, so that their
 * own declarations still parse.
 */
#ifndef BANNED_H
#define BANNED_H

#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#undef alloca
#pragma GCC poison strcpy strcat sprintf vsprintf strtok gets alloca

#endif
