/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status codes, texts and timeouts of gRPC as they stand in headers: see grpc_i.h.
 * Source: grpc/grpc doc/PROTOCOL-HTTP2.md, doc/http-grpc-status-mapping.md.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/grpc_i.h"
#include "lib/http2_i.h"

const char *grpc_code_name(enum grpc_code code)
{
	static const char *const names[] = {
		"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
		"AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
		"Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
		"Unauthenticated",
	};

	return (unsigned)code < ARRAY_SIZE(names) ? names[code] : "Unknown";
}

enum grpc_code grpc_code_of_http2(uint32_t error)
{
	switch (error) {
	case HTTP2_REFUSED_STREAM:
		return GRPC_UNAVAILABLE;
	case HTTP2_CANCEL:
		return GRPC_CANCELED;
	case HTTP2_FLOW_CONTROL_ERROR:
	case HTTP2_ENHANCE_YOUR_CALM:
		return GRPC_RESOURCE_EXHAUSTED;
	case HTTP2_INADEQUATE_SECURITY:
		return GRPC_PERMISSION_DENIED;
	default:
		return error < HTTP2_ERRORS ? GRPC_INTERNAL : GRPC_UNKNOWN;
	}
}

enum grpc_code grpc_code_of_status(int status)
{
	switch (status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

static bool is_plain(uint8_t c)
{
	return c >= ' ' && c <= '~' && c != '%';
}

char *grpc_text_encode(const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = malloc(strlen(text) * 3 + 1), *p = out;

	if (!out)
		return NULL;
	for (; *text; text++) {
		uint8_t c = (uint8_t)*text;

		if (is_plain(c)) {
			*p++ = (char)c;
			continue;
		}
		*p++ = '%';
		*p++ = hex[c >> 4];
		*p++ = hex[c & 15];
	}
	*p = 0;
	return out;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What is no escape stays as it is, and so does that of a NUL. */
void grpc_text_decode(char *text)
{
	char *out = text;

	while (*text) {
		int high = *text == '%' ? hex_value(text[1]) : -1;
		int low = high < 0 ? -1 : hex_value(text[2]);

		if (low < 0 || high + low == 0) {
			*out++ = *text++;
			continue;
		}
		*out++ = (char)(high << 4 | low);
		text += 3;
	}
	*out = 0;
}

static uint64_t timeout_unit(uint8_t unit)
{
	switch (unit) {
	case 'H': return 3600 * UINT64_C(1000000000);
	case 'M': return 60 * UINT64_C(1000000000);
	case 'S': return UINT64_C(1000000000);
	case 'm': return 1000000;
	case 'u': return 1000;
	case 'n': return 1;
	default: return 0;
	}
}

int grpc_timeout_parse(struct slice text, uint64_t *ns)
{
	uint64_t unit, v = 0;

	if (text.len < 2 || text.len > 9)
		return -EINVAL;
	unit = timeout_unit(text.data[text.len - 1]);
	if (!unit)
		return -EINVAL;
	for (size_t i = 0; i + 1 < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return -EINVAL;
		v = v * 10 + (uint64_t)(text.data[i] - '0');
	}
	*ns = v > INT64_MAX / unit ? INT64_MAX : v * unit;
	return 0;
}

/* At most eight digits are allowed: the unit grows with the value. */
void grpc_timeout_format(uint64_t ms, char *out)
{
	static const struct { uint64_t ms; char unit; } units[] = {
		{ 1, 'm' }, { 1000, 'S' }, { 60000, 'M' }, { 3600000, 'H' },
	};
	size_t i = 0;

	while (i + 1 < ARRAY_SIZE(units) && ms / units[i].ms > 99999999)
		i++;
	snprintf(out, GRPC_TIMEOUT_MAX, "%u%c",
		 (unsigned)MIN(ms / units[i].ms, UINT64_C(99999999)), units[i].unit);
}

bool grpc_is_content_type(struct slice value)
{
	struct slice base = SLICE_LIT("application/grpc");

	return slice_has_prefix(value, base) &&
	       (value.len == base.len || value.data[base.len] == '+' ||
		value.data[base.len] == ';');
}
