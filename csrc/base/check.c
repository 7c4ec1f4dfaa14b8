/*
 * check.c: whether a row's fields are what they may be. In: a field; out: 0, or a code and what is wrong
 * with it told. Called by control/, by rows before they write.
 */
#include "base/check.h"
#include "base/addr.h"
#include "base/wire.h"

int check_family(const struct tell *where, const char *field, unsigned family)
{
    return family == DP_IPV4 || family == DP_IPV6
               ? DP_OK
               : tell(where, DP_EINVAL, "%s %u is neither 4 nor 6", field, family);
}

int check_address(const struct tell *where, const char *field, unsigned family, const uint8_t *address)
{
    if (family == DP_IPV4 && (load32(address + 4) | load64(address + 8)))
        return tell(where, DP_EINVAL, "%s: bytes behind an IPv4 address", field);
    return DP_OK;
}

int check_unicast(const struct tell *where, const char *field, unsigned family, const uint8_t *address)
{
    int code = check_address(where, field, family, address);
    if (code == DP_OK && !is_host(family, address))
        return tell(where, DP_EINVAL, "%s %s is no unicast address", field,
                    tell_address(family, address).s);
    return code;
}

int check_prefix(const struct tell *where, unsigned family, const uint8_t *prefix, unsigned len)
{
    int code = check_family(where, "family", family);
    if (code)
        return code;
    if (len > addr_bits(family))
        return tell(where, DP_EINVAL, "prefix_len %u is over %u", len, addr_bits(family));
    for (unsigned i = len; i < 128; i++)
        if (prefix[i / 8] & 0x80 >> i % 8)
            return tell(where, DP_EINVAL, "prefix %s/%u has bits behind its length",
                        tell_address(family, prefix).s, len);
    return DP_OK;
}

int check_zero(const struct tell *where, const uint8_t *pad, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (pad[i])
            return tell(where, DP_EINVAL, "padding is not zero");
    return DP_OK;
}

int check_mac(const struct tell *where, const uint8_t *mac)
{
    return mac_is_group(mac) ? tell(where, DP_EINVAL, "mac is a group address") : DP_OK;
}

int check_vsid(const struct tell *where, uint32_t vsid)
{
    if (vsid < VSID_MIN || vsid > VSID_MAX)
        return tell(where, DP_EINVAL, "vsid %u is not in %u..%u", vsid, VSID_MIN, VSID_MAX);
    return DP_OK;
}

int check_port(const struct tell *where, uint32_t port)
{
    if (port == DP_UNDERLAY || port >= DP_MAX_PORTS)
        return tell(where, DP_EINVAL, "port %u is not in 1..%u", port, DP_MAX_PORTS - 1);
    return DP_OK;
}

int check_host(const struct tell *where, uint32_t host)
{
    return host == INDEX_NONE ? tell(where, DP_EINVAL, "host %u is reserved", host) : DP_OK;
}
