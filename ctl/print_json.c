// SPDX-License-Identifier: Apache-2.0
/*
 * --write-out=json: what Go's encoding/json makes of etcd's messages. Messages are
 * walked by their descriptors: fields in the order of their numbers, empty ones left
 * out, bytes in base64, enums as numbers. Where etcdctl prints a structure of its own
 * instead of the message, that is written out here.
 */
#include "ctl/print.h"

#include <inttypes.h>

static void json_message(FILE *out, const ProtobufCMessage *message, bool hex);

/* --- values --------------------------------------------------------------------- */

static void json_rune(FILE *out, struct slice bytes, uint32_t rune)
{
	static const char letters[] = "bfnrt\\\"", escaped[] = "\b\f\n\r\t\\\"";
	const char *p = rune && rune < 0x80 ? strchr(escaped, (int)rune) : NULL;

	if (p)
		fprintf(out, "\\%c", letters[p - escaped]);
	else if (rune < ' ' || rune == '<' || rune == '>' || rune == '&' ||
		 rune == 0x2028 || rune == 0x2029)
		fprintf(out, "\\u%04" PRIx32, rune);
	else
		fwrite(bytes.data, 1, bytes.len, out);
}

static void json_string(FILE *out, const char *text)
{
	struct slice s = slice_str(text);
	uint32_t rune;
	size_t n;

	fputc('"', out);
	for (; s.len; s.data += n, s.len -= n) {
		n = text_rune(s, &rune);
		if (n) {
			json_rune(out, slice_of(s.data, n), rune);
		} else {
			fputs("\\ufffd", out);
			n = 1;
		}
	}
	fputc('"', out);
}

static void json_base64(FILE *out, const ProtobufCBinaryData *bytes)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	fputc('"', out);
	for (size_t i = 0; i < bytes->len; i += 3) {
		size_t n = MIN(bytes->len - i, (size_t)3);
		uint32_t v = (uint32_t)bytes->data[i] << 16;

		if (n > 1)
			v |= (uint32_t)bytes->data[i + 1] << 8;
		if (n > 2)
			v |= bytes->data[i + 2];
		fputc(digits[v >> 18], out);
		fputc(digits[v >> 12 & 63], out);
		fputc(n > 1 ? digits[v >> 6 & 63] : '=', out);
		fputc(n > 2 ? digits[v & 63] : '=', out);
	}
	fputc('"', out);
}

/* With --hex etcdctl shows the identifiers of members so, and these fields always. */
static bool is_hex_id(const ProtobufCFieldDescriptor *field, bool hex)
{
	return hex && (!strcmp(field->name, "cluster_id") || !strcmp(field->name, "member_id") ||
		       !strcmp(field->name, "ID"));
}

static void json_value(FILE *out, const ProtobufCFieldDescriptor *field, const void *at, bool hex)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_INT64:
		fprintf(out, "%" PRId64, *(const int64_t *)at);
		break;
	case PROTOBUF_C_TYPE_UINT64:
		fprintf(out, is_hex_id(field, hex) ? "\"%" PRIx64 "\"" : "%" PRIu64,
			*(const uint64_t *)at);
		break;
	case PROTOBUF_C_TYPE_UINT32:
		fprintf(out, "%" PRIu32, *(const uint32_t *)at);
		break;
	case PROTOBUF_C_TYPE_ENUM:
		fprintf(out, "%" PRId32, *(const int32_t *)at);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		fputs(*(const protobuf_c_boolean *)at ? "true" : "false", out);
		break;
	case PROTOBUF_C_TYPE_STRING:
		json_string(out, *(const char *const *)at);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		json_base64(out, at);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		json_message(out, *(const ProtobufCMessage *const *)at, hex);
		break;
	default:
		BUG();
	}
}

/* --- messages ------------------------------------------------------------------- */

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_ENUM:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		return sizeof(uint64_t);
	}
}

/* Go's omitempty. */
static bool is_empty(const ProtobufCFieldDescriptor *field, const void *at, const void *quantifier)
{
	static const uint64_t zero;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return !*(const size_t *)quantifier;
	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)quantifier != field->id;
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		return !**(const char *const *)at;
	case PROTOBUF_C_TYPE_BYTES:
		return !((const ProtobufCBinaryData *)at)->len;
	default:
		return !memcmp(at, &zero, element_size(field));
	}
}

static void json_field(FILE *out, const ProtobufCFieldDescriptor *field, const void *at,
		       size_t n, bool hex)
{
	const char *element;

	fprintf(out, "\"%s\":", field->name);
	if (field->label != PROTOBUF_C_LABEL_REPEATED) {
		json_value(out, field, at, hex);
		return;
	}
	element = *(const char *const *)at;
	fputc('[', out);
	for (size_t i = 0; i < n; i++) {
		if (i)
			fputc(',', out);
		json_value(out, field, element + i * element_size(field), hex);
	}
	fputc(']', out);
}

/* The fields without the braces; true: there was one. */
static bool json_fields(FILE *out, const ProtobufCMessage *message, bool hex)
{
	const char *base = (const char *)message;
	bool any = false;

	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const void *quantifier = base + field->quantifier_offset;
		const void *at = base + field->offset;
		bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;

		if (is_empty(field, at, quantifier) && !is_hex_id(field, hex))
			continue;
		if (any)
			fputc(',', out);
		any = true;
		json_field(out, field, at, repeated ? *(const size_t *)quantifier : 1, hex);
	}
	return any;
}

static void json_message(FILE *out, const ProtobufCMessage *message, bool hex)
{
	bool is_op = message->descriptor == &etcdserverpb__response_op__descriptor;

	/* Go has an interface value in a ResponseOp, and it is a field of its own. */
	fputs(is_op ? "{\"Response\":{" : "{", out);
	json_fields(out, message, hex);
	fputs(is_op ? "}}" : "}", out);
}

/* --- answers -------------------------------------------------------------------- */

static void json_answer(struct ctl *ctl, const void *answer)
{
	json_message(ctl->out, answer, false);
	fputc('\n', ctl->out);
}

/* clientv3.WatchResponse, which is no message. */
static void json_watch(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__WatchResponse *response = answer;
	FILE *out = ctl->out;

	fputs("{\"Header\":", out);
	if (response->header)
		json_message(out, &response->header->base, false);
	else
		fputs("null", out);
	fputs(",\"Events\":", out);
	for (size_t i = 0; i < response->n_events; i++) {
		fputc(i ? ',' : '[', out);
		json_message(out, &response->events[i]->base, false);
	}
	fputs(response->n_events ? "]" : "null", out);
	fprintf(out, ",\"CompactRevision\":%" PRId64 ",\"Canceled\":%s,\"Created\":%s,"
		"\"CancelReason\":", response->compact_revision,
		response->canceled ? "true" : "false", response->created ? "true" : "false");
	json_string(out, response->cancel_reason);
	fputs("}\n", out);
}

/* The structures of clientv3 for leases embed the header. */
static void json_open_lease(FILE *out, const Etcdserverpb__ResponseHeader *header)
{
	fputc('{', out);
	if (header && json_fields(out, &header->base, false))
		fputc(',', out);
}

static void json_grant(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseGrantResponse *response = answer;

	json_open_lease(ctl->out, response->header);
	fprintf(ctl->out, "\"ID\":%" PRId64 ",\"TTL\":%" PRId64 ",\"Error\":", response->id,
		response->ttl);
	json_string(ctl->out, response->error);
	fputs("}\n", ctl->out);
}

static void json_revoke(struct ctl *ctl, const void *answer)
{
	const struct show_revoke *revoke = answer;

	json_answer(ctl, revoke->response);
}

static void json_keep_alive(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseKeepAliveResponse *response = answer;

	json_open_lease(ctl->out, response->header);
	fprintf(ctl->out, "\"ID\":%" PRId64 ",\"TTL\":%" PRId64 "}\n", response->id,
		response->ttl);
}

static void json_time_to_live(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseTimeToLiveResponse *response = answer;

	json_open_lease(ctl->out, response->header);
	fprintf(ctl->out, "\"id\":%" PRId64 ",\"ttl\":%" PRId64 ",\"granted-ttl\":%" PRId64
		",\"keys\":", response->id, response->ttl, response->grantedttl);
	for (size_t i = 0; i < response->n_keys; i++) {
		fputc(i ? ',' : '[', ctl->out);
		json_base64(ctl->out, &response->keys[i]);
	}
	fputs(response->n_keys ? "]}\n" : "null}\n", ctl->out);
}

static void json_leases(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseLeasesResponse *response = answer;

	json_open_lease(ctl->out, response->header);
	fputs("\"leases\":[", ctl->out);
	for (size_t i = 0; i < response->n_leases; i++)
		fprintf(ctl->out, "%s{\"id\":%" PRId64 "}", i ? "," : "", response->leases[i]->id);
	fputs("]}\n", ctl->out);
}

static void json_members(struct ctl *ctl, const void *answer)
{
	json_message(ctl->out, answer, ctl->line.opt.hex);
	fputc('\n', ctl->out);
}

static void json_status(struct ctl *ctl, const void *answer)
{
	const struct show_statuses *statuses = answer;

	for (size_t i = 0; i < statuses->n; i++) {
		fputs(i ? ",{\"Endpoint\":" : "[{\"Endpoint\":", ctl->out);
		json_string(ctl->out, statuses->at[i].endpoint);
		fputs(",\"Status\":", ctl->out);
		json_message(ctl->out, &statuses->at[i].response->base, false);
		fputc('}', ctl->out);
	}
	fputs(statuses->n ? "]\n" : "null\n", ctl->out);
}

static void json_health(struct ctl *ctl, const void *answer)
{
	const struct show_healths *healths = answer;

	for (size_t i = 0; i < healths->n; i++) {
		const struct show_health *health = &healths->at[i];

		fputs(i ? ",{\"endpoint\":" : "[{\"endpoint\":", ctl->out);
		json_string(ctl->out, health->endpoint);
		fprintf(ctl->out, ",\"health\":%s,\"took\":\"", health->healthy ? "true" : "false");
		text_duration(ctl->out, health->took);
		fputc('"', ctl->out);
		if (*health->error) {
			fputs(",\"error\":", ctl->out);
			json_string(ctl->out, health->error);
		}
		fputc('}', ctl->out);
	}
	fputs(healths->n ? "]\n" : "null\n", ctl->out);
}

static void json_hashes(struct ctl *ctl, const void *answer)
{
	const struct show_hashes *hashes = answer;

	for (size_t i = 0; i < hashes->n; i++) {
		fputs(i ? ",{\"Endpoint\":" : "[{\"Endpoint\":", ctl->out);
		json_string(ctl->out, hashes->at[i].endpoint);
		fputs(",\"HashKV\":", ctl->out);
		json_message(ctl->out, &hashes->at[i].response->base, false);
		fputc('}', ctl->out);
	}
	fputs(hashes->n ? "]\n" : "null\n", ctl->out);
}

const struct printer printer_json = {
	.name = "json",
	.show = {
		[SHOW_PUT] = json_answer,
		[SHOW_GET] = json_answer,
		[SHOW_DEL] = json_answer,
		[SHOW_TXN] = json_answer,
		[SHOW_WATCH] = json_watch,
		[SHOW_GRANT] = json_grant,
		[SHOW_REVOKE] = json_revoke,
		[SHOW_KEEP_ALIVE] = json_keep_alive,
		[SHOW_TIME_TO_LIVE] = json_time_to_live,
		[SHOW_LEASES] = json_leases,
		[SHOW_MEMBERS] = json_members,
		[SHOW_STATUS] = json_status,
		[SHOW_HEALTH] = json_health,
		[SHOW_HASHES] = json_hashes,
		[SHOW_ALARMS] = json_answer,
	},
};
