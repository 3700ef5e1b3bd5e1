"""One allocation on one TURN server (RFC 8656), without I/O.

Every peer gets a channel: a ChannelBind installs the permission too, and ChannelData costs four bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from rtc.ice.path import Address
from rtc.ice.timings import FAR_FUTURE_NS
from rtc.turn import messages
from rtc.turn.messages import FIRST_CHANNEL, Attribute, Kind, Method, TurnMessage, TurnMessageError

_S = 1_000_000_000
_RTO_NS = _S // 2
"""First wait for an answer over UDP, then doubled up to four times that (RFC 8489 section 6.2.1)."""
_MAX_RTO_NS = 2 * _S
_ALLOCATE_LIMIT_NS = 8 * _S
_LIMIT_NS = 20 * _S
"""Without an answer to anything later, the allocation is given up."""
_CHANNEL_REFRESH_NS = 240 * _S
"""Permissions last 300 s, channels 600 s (RFC 8656 sections 9 and 12)."""
_CHANNEL_IDLE_NS = 200 * _S
_MAX_PEERS = 128
_MAX_WAITING = 8
"""Datagrams for one peer while its channel is being bound."""
_MAX_STALE = 3
_UDP = bytes([17, 0, 0, 0])


@dataclass(frozen=True, slots=True)
class Allocated:
    """The server relays for us at `relayed`, and sees us at `mapped`."""

    relayed: Address
    mapped: Address | None


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """The server does not relay to `peer`."""

    peer: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """There is no allocation, or no more; nothing further happens."""

    reason: str


TurnEvent = Allocated | PeerRefused | Ended


class _Transaction:
    __slots__ = ("attributes", "due_ns", "limit_ns", "message", "method", "peer", "rto_ns", "stale")

    def __init__(
        self, method: Method, attributes: bytes, limit_ns: int, peer: Address | None
    ) -> None:
        self.method = method
        self.attributes = attributes
        self.limit_ns = limit_ns
        self.peer = peer
        self.message = b""
        self.rto_ns = 0
        self.due_ns = 0
        self.stale = 0


class _Channel:
    __slots__ = ("bound", "number", "refresh_ns", "used_ns", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        self.bound = False
        self.refresh_ns = FAR_FUTURE_NS
        self.used_ns = 0
        self.waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)


class TurnClient:
    """`start`; then `send` and `receive`; `release` in the end.

    After each call: `due_ns` says when `tick` is wanted, `take_outgoing` what goes to the server,
    `take_events` what happened. All times are monotonic ns.
    """

    def __init__(self, *, username: str, password: str, reliable: bool) -> None:
        """`reliable`: the server is reached over TCP or TLS, so nothing is repeated, and frames padded."""
        self._username = username
        self._password = password
        self._reliable = reliable
        self._realm = ""
        self._nonce = b""
        self._key: bytes | None = None
        self._transactions: dict[bytes, _Transaction] = {}
        self._channels: dict[Address, _Channel] = {}
        self._peers: dict[int, Address] = {}
        self._refused: set[Address] = set()
        self._peers_seen = 0
        self._outgoing: list[bytes] = []
        self._events: list[TurnEvent] = []
        self._refresh_ns = FAR_FUTURE_NS
        self._ended = False
        self.relayed: Address | None = None
        """Our address at the server, once allocated."""
        self.due_ns = FAR_FUTURE_NS
        """When `tick` wants to be called."""
        self.dropped = 0
        """Datagrams for peers that the server refused, or beyond the limit of peers."""

    @property
    def ended(self) -> bool:
        return self._ended

    def take_outgoing(self) -> list[bytes]:
        """Messages for the server, in order; each is handed out once."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def take_events(self) -> list[TurnEvent]:
        events, self._events = self._events, []
        return events

    def start(self, now_ns: int) -> None:
        """Ask for an allocation: ends in Allocated, or in Ended within 8 s."""
        attributes = messages.encode(Attribute.REQUESTED_TRANSPORT, _UDP)
        self._request(Method.ALLOCATE, attributes, now_ns, limit_ns=_ALLOCATE_LIMIT_NS)

    def send(self, data: bytes | memoryview, peer: Address, now_ns: int) -> None:
        """Relay a datagram. The first ones for a peer wait for its channel; 8 at most, the oldest go."""
        channel = self._channels.get(peer)
        if channel is None:
            if (
                self._ended
                or self.relayed is None
                or peer in self._refused
                or self._peers_seen >= _MAX_PEERS
            ):
                self.dropped += 1
                return
            channel = _Channel(FIRST_CHANNEL + self._peers_seen)
            self._peers_seen += 1
            self._channels[peer] = channel
            self._peers[channel.number] = peer
            self._bind(peer, channel, now_ns)
        channel.used_ns = now_ns
        if channel.bound:
            self._outgoing.append(
                messages.channel_data(channel.number, data, padded=self._reliable)
            )
        else:
            if channel.refresh_ns <= now_ns:  # it was left to lapse, and is wanted again
                self._bind(peer, channel, now_ns)
            channel.waiting.append(bytes(data))

    def receive(self, message: bytes, now_ns: int) -> tuple[Address, bytes] | None:
        """Take one message of the server; a relayed datagram is returned with its peer."""
        if self._ended or not message:
            return None
        if 0x40 <= message[0] <= 0x4F:
            data = messages.parse_channel_data(message)
            peer = None if data is None else self._peers.get(data[0])
            if data is None or peer is None:
                return None
            self._channels[peer].used_ns = now_ns
            return peer, data[1]
        try:
            parsed = messages.parse(message)
        except TurnMessageError:
            return None
        if parsed.kind is Kind.INDICATION:
            peer = parsed.address(Attribute.XOR_PEER_ADDRESS)
            relayed = parsed.attributes.get(Attribute.DATA)
            if parsed.method != Method.DATA or peer not in self._channels or relayed is None:
                return None
            return peer, relayed
        self._response(parsed, now_ns)
        self._plan()
        return None

    def tick(self, now_ns: int) -> None:
        """Repeat, refresh and give up what is due."""
        if now_ns < self.due_ns or self._ended:
            return
        for transaction_id, transaction in list(self._transactions.items()):
            if now_ns < min(transaction.due_ns, transaction.limit_ns):
                continue
            if now_ns >= transaction.limit_ns:
                del self._transactions[transaction_id]
                self._timed_out(transaction)
            else:
                self._outgoing.append(transaction.message)
                transaction.rto_ns = min(2 * transaction.rto_ns, _MAX_RTO_NS)
                transaction.due_ns = now_ns + transaction.rto_ns
        if self._ended:
            return
        if now_ns >= self._refresh_ns:
            self._refresh_ns = FAR_FUTURE_NS
            self._request(Method.REFRESH, b"", now_ns, limit_ns=_LIMIT_NS)
        for peer, channel in self._channels.items():
            if now_ns >= channel.refresh_ns and channel.bound:
                if now_ns - channel.used_ns < _CHANNEL_IDLE_NS:
                    channel.refresh_ns = FAR_FUTURE_NS
                    self._bind(peer, channel, now_ns)
                else:
                    channel.bound = False  # no longer refreshed; the next datagram binds it anew
        self._plan()

    def release(self, now_ns: int) -> None:
        """Give the allocation back: one request, whose answer nobody waits for."""
        if self.relayed is not None and not self._ended:
            lifetime = messages.encode(Attribute.LIFETIME, bytes(4))
            self._request(Method.REFRESH, lifetime, now_ns, limit_ns=_LIMIT_NS)
        self._ended = True
        self._transactions.clear()
        self.due_ns = FAR_FUTURE_NS

    # internals

    def _bind(self, peer: Address, channel: _Channel, now_ns: int) -> None:
        channel.refresh_ns = FAR_FUTURE_NS
        number = messages.encode(
            Attribute.CHANNEL_NUMBER, channel.number.to_bytes(2, "big") + b"\0\0"
        )
        self._request(Method.CHANNEL_BIND, number, now_ns, limit_ns=_LIMIT_NS, peer=peer)

    def _request(
        self,
        method: Method,
        attributes: bytes,
        now_ns: int,
        *,
        limit_ns: int,
        peer: Address | None = None,
    ) -> None:
        transaction = _Transaction(method, attributes, now_ns + limit_ns, peer)
        self._transmit(transaction, now_ns)
        self._plan()

    def _transmit(self, transaction: _Transaction, now_ns: int) -> None:
        """Under a new transaction id, with what is known of realm and nonce now."""
        transaction_id = messages.new_transaction_id()
        attributes = transaction.attributes
        if transaction.peer is not None:
            attributes += messages.encode_address(
                Attribute.XOR_PEER_ADDRESS, transaction.peer, transaction_id
            )
        if self._key is not None:
            attributes += messages.encode(Attribute.USERNAME, self._username.encode())
            attributes += messages.encode(Attribute.REALM, self._realm.encode())
            attributes += messages.encode(Attribute.NONCE, self._nonce)
        transaction.message = messages.build(
            transaction.method, Kind.REQUEST, transaction_id, attributes, key=self._key
        )
        transaction.rto_ns = _RTO_NS
        transaction.due_ns = FAR_FUTURE_NS if self._reliable else now_ns + _RTO_NS
        self._transactions[transaction_id] = transaction
        self._outgoing.append(transaction.message)

    def _response(self, message: TurnMessage, now_ns: int) -> None:
        transaction = self._transactions.get(message.transaction_id)
        if transaction is None or message.method != transaction.method:
            return
        if message.kind is Kind.ERROR:
            del self._transactions[message.transaction_id]
            self._refused_with(message, transaction, now_ns)
        elif message.kind is Kind.SUCCESS:
            # A server that asked for no credentials signs nothing.
            if self._key is not None and not message.integrity_holds(self._key):
                return
            del self._transactions[message.transaction_id]
            self._succeeded(message, transaction, now_ns)

    def _succeeded(self, message: TurnMessage, transaction: _Transaction, now_ns: int) -> None:
        if transaction.method is Method.CHANNEL_BIND:
            channel = self._channels.get(transaction.peer) if transaction.peer else None
            if channel is not None:
                channel.bound = True
                channel.refresh_ns = now_ns + _CHANNEL_REFRESH_NS
                while channel.waiting:
                    data = channel.waiting.popleft()
                    self._outgoing.append(
                        messages.channel_data(channel.number, data, padded=self._reliable)
                    )
            return
        lifetime_ns = (message.lifetime_s or 600) * _S
        self._refresh_ns = now_ns + max(lifetime_ns // 2, lifetime_ns - 60 * _S)
        if transaction.method is Method.ALLOCATE and self.relayed is None:
            self.relayed = message.address(Attribute.XOR_RELAYED_ADDRESS)
            if self.relayed is None:
                self._end("its answer names no relayed address")
                return
            mapped = message.address(Attribute.XOR_MAPPED_ADDRESS)
            self._events.append(Allocated(self.relayed, mapped))

    def _refused_with(self, message: TurnMessage, transaction: _Transaction, now_ns: int) -> None:
        code, text = message.error
        realm = message.attributes.get(Attribute.REALM)
        nonce = message.attributes.get(Attribute.NONCE)
        challenged = code == 401 and self._key is None and realm is not None
        stale = code == 438 and transaction.stale < _MAX_STALE
        if nonce is not None and (challenged or stale):
            self._nonce = nonce
            if realm is not None:
                self._realm = realm.decode("utf-8", "replace")
            self._key = messages.long_term_key(self._username, self._realm, self._password)
            transaction.stale += 1
            self._transmit(transaction, now_ns)
            return
        reason = f"refused with {code} ({messages.ERROR_TEXTS.get(code) or text or 'no reason'})"
        if transaction.method is Method.CHANNEL_BIND and transaction.peer is not None:
            self._refuse(transaction.peer, reason)
        else:
            self._end(reason)

    def _timed_out(self, transaction: _Transaction) -> None:
        waited_s = (_ALLOCATE_LIMIT_NS if self.relayed is None else _LIMIT_NS) / _S
        self._end(f"no answer within {waited_s:g} s")

    def _refuse(self, peer: Address, reason: str) -> None:
        self._refused.add(peer)
        channel = self._channels.pop(peer, None)
        if channel is not None:
            # Its number is not used again: the server may remember it (RFC 8656 section 12.1).
            self._peers.pop(channel.number, None)
        self._events.append(PeerRefused(peer, reason))

    def _end(self, reason: str) -> None:
        self._ended = True
        self._transactions.clear()
        self.due_ns = FAR_FUTURE_NS
        self._events.append(Ended(reason))

    def _plan(self) -> None:
        if self._ended:
            self.due_ns = FAR_FUTURE_NS
            return
        moments = [min(t.due_ns, t.limit_ns) for t in self._transactions.values()]
        moments += [c.refresh_ns for c in self._channels.values() if c.bound]
        self.due_ns = min([*moments, self._refresh_ns])
