/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of two clusters, made comparable: what no two clusters have in common is
 * taken out of them, then they are compared as bytes. And messages as text, for
 * whoever has to find out why two answers differ.
 */
#ifndef TESTS_DIFF_MESSAGE_H
#define TESTS_DIFF_MESSAGE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdio.h>

#include "include/slice.h"

struct rpc {
	const char *path;
	const ProtobufCMessageDescriptor *request, *response;
};

/* NULL where there is no such method in the recordings. */
const struct rpc *rpc_find(const char *path);

/*
 * Whether two messages of @type say the same. Ids and term of every header, at any
 * depth, are not looked at; nor is the order of the keys of a lease; and what is
 * left of a lease may differ by an hour, as recordings are older than their replay.
 * Bytes that are no such message equal nothing.
 */
bool message_same(const ProtobufCMessageDescriptor *type, struct slice a, struct slice b);

void message_print(const ProtobufCMessageDescriptor *type, struct slice bytes, FILE *out);

#endif
