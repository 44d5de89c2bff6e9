import Foundation

#if canImport(CryptoKit)
    import CryptoKit
#endif

/// SHA-256 (FIPS 180-4) of data and files, as 64 lower-case hexadecimal digits.
public enum ContentDigest {
    /// Bytes of a file that are held at once.
    private static let chunk = 1 << 20

    /// Digest of data.
    public static func of(_ data: Data) -> String {
        var hasher = Hasher()
        hasher.update(data)
        return hexadecimal(hasher.finish())
    }

    /// Digest of a file's content.
    ///
    /// - Throws: `KokoroError.bundle` if it cannot be read.
    public static func of(fileAt url: URL) throws -> String {
        do {
            let file = try FileHandle(forReadingFrom: url)
            defer { try? file.close() }
            var hasher = Hasher()
            while let data = try file.read(upToCount: chunk), !data.isEmpty { hasher.update(data) }
            return hexadecimal(hasher.finish())
        } catch {
            throw KokoroError.bundle(
                "cannot read '\(url.path)': \(error.localizedDescription)")
        }
    }

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    #if canImport(CryptoKit)
        private struct Hasher {
            private var inner = CryptoKit.SHA256()
            mutating func update(_ data: Data) { inner.update(data: data) }
            func finish() -> [UInt8] { Array(inner.finalize()) }
        }
    #else
        private typealias Hasher = PlainSHA256
    #endif
}

/// SHA-256 for systems without CryptoKit.
struct PlainSHA256 {
    private static let block = 64
    private static let constants: [UInt32] = firstPrimes(64).map { fraction(of: $0, root: cbrt) }

    private var state: [UInt32] = firstPrimes(8).map { fraction(of: $0, root: { $0.squareRoot() }) }
    private var pending: [UInt8] = []
    private var length: UInt64 = 0

    mutating func update(_ data: Data) {
        length += UInt64(data.count)
        pending.append(contentsOf: data)
        let whole = pending.count / Self.block * Self.block
        Self.constants.withUnsafeBufferPointer { constants in
            pending.withUnsafeBytes { bytes in
                var start = 0
                while start < whole {
                    Self.compress(&state, bytes.baseAddress! + start, constants.baseAddress!)
                    start += Self.block
                }
            }
        }
        pending.removeFirst(whole)
    }

    func finish() -> [UInt8] {
        var last = self
        let bits = length * 8
        let zeros = (2 * Self.block - 9 - pending.count) % Self.block
        var padding = Data([0x80]) + Data(repeating: 0, count: zeros)
        withUnsafeBytes(of: bits.bigEndian) { padding.append(contentsOf: $0) }
        last.update(padding)
        return last.state.flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } }
    }

    /// Written for builds without optimisation too, which the tests of large files run in: plain
    /// loops, pointers, and shifts that check nothing.
    private static func compress(
        _ state: inout [UInt32], _ bytes: UnsafeRawPointer, _ constants: UnsafePointer<UInt32>
    ) {
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { buffer in
            let words = buffer.baseAddress!
            schedule(words, bytes)
            var (a, b, c, d) = (state[0], state[1], state[2], state[3])
            var (e, f, g, h) = (state[4], state[5], state[6], state[7])
            var round = 0
            while round < 64 {
                let choice = (e & f) ^ (~e & g)
                let big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
                let first = h &+ big1 &+ choice &+ constants[round] &+ words[round]
                let majority = (a & b) ^ (a & c) ^ (b & c)
                let big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
                h = g
                g = f
                f = e
                e = d &+ first
                d = c
                c = b
                b = a
                a = first &+ big0 &+ majority
                round &+= 1
            }
            for (index, word) in [a, b, c, d, e, f, g, h].enumerated() { state[index] &+= word }
        }
    }

    private static func schedule(_ words: UnsafeMutablePointer<UInt32>, _ bytes: UnsafeRawPointer) {
        var index = 0
        while index < 16 {
            let word = bytes.loadUnaligned(fromByteOffset: 4 &* index, as: UInt32.self)
            words[index] = UInt32(bigEndian: word)
            index &+= 1
        }
        while index < 64 {
            let early = words[index &- 15]
            let late = words[index &- 2]
            let small0 = rotate(early, 7) ^ rotate(early, 18) ^ early &>> 3
            let small1 = rotate(late, 17) ^ rotate(late, 19) ^ late &>> 10
            words[index] = words[index &- 16] &+ small0 &+ words[index &- 7] &+ small1
            index &+= 1
        }
    }

    @inline(__always)
    private static func rotate(_ word: UInt32, _ count: UInt32) -> UInt32 {
        word &>> count | word &<< (32 &- count)
    }

    private static func firstPrimes(_ count: Int) -> [Int] {
        var primes: [Int] = []
        var candidate = 2
        while primes.count < count {
            if primes.allSatisfy({ candidate % $0 != 0 }) { primes.append(candidate) }
            candidate += 1
        }
        return primes
    }

    /// The first 32 bits of the fractional part of a root, which is where the standard's constants
    /// come from; float64 holds all of them for roots below 8.
    private static func fraction(of prime: Int, root: (Double) -> Double) -> UInt32 {
        let value = root(Double(prime))
        return UInt32((value - value.rounded(.down)) * 0x1p32)
    }
}
