import Foundation

/// The voices of a blend and their shares.
///
/// Written `a*0.6+b*0.4`. Either every voice has a weight or none has, which makes them equal.
/// Weights are finite numbers above 0; only their ratio counts (`a*3+b*1` is `a*0.75+b*0.25`). A
/// voice may stand in it once. `*` and `+` cannot be part of a name.
public struct VoiceBlend: Sendable, Equatable {
    /// One voice of a blend.
    public struct Part: Sendable, Equatable {
        /// Name of the voice.
        public let name: String
        /// Its share of the whole; the shares add up to 1.
        public let weight: Double
    }

    /// The voices in the order they were written.
    public let parts: [Part]

    /// Reads a blend, or the name of a single voice.
    ///
    /// - Throws: `KokoroError.voice` for anything else; the message quotes the part that is wrong.
    public init(_ specification: String) throws {
        let terms = try Self.terms(specification)
        let failure = { (message: String) in
            KokoroError.voice("voice \(quoted(specification)): \(message)")
        }
        guard Set(terms.map { Array($0.name.utf8) }).count == terms.count else {
            throw failure("each voice may stand in a blend once")
        }
        let given = terms.compactMap(\.weight)
        guard given.isEmpty || given.count == terms.count else {
            throw failure("give every voice a weight (a*0.6+b*0.4), or none")
        }
        let weights = given.isEmpty ? terms.map { _ in 1.0 } : given
        let total = weights.reduce(0, +)
        guard total.isFinite else { throw failure("the weights are too large to add up") }
        parts = zip(terms, weights).map { Part(name: $0.name, weight: $1 / total) }
        guard parts.allSatisfy({ $0.weight > 0 }) else {
            throw failure("a weight is too small beside the others to count")
        }
    }

    private typealias Term = (name: String, weight: Double?)

    private static func terms(_ specification: String) throws -> [Term] {
        var rest = Array(specification.unicodeScalars)[...]
        var terms: [Term] = []
        while true {
            let whole = rest
            let name = take(&rest).stripped()
            guard !name.isEmpty else {
                throw KokoroError.voice(
                    "voice \(quoted(specification)): expected a name or file at \(quoted(whole))")
            }
            var weight: Double?
            if rest.first == "*" {
                rest.removeFirst()
                weight = try self.weight(takeWeight(&rest), of: specification)
            }
            terms.append((name.text, weight))
            guard let next = rest.first else { return terms }
            guard next == "+" else {
                throw KokoroError.voice(
                    "voice \(quoted(specification)): expected '+' at \(quoted(rest))")
            }
            rest.removeFirst()
        }
    }

    /// Takes what stands in front of the next `*` or `+`.
    private static func take(
        _ rest: inout ArraySlice<Unicode.Scalar>
    ) -> ArraySlice<Unicode.Scalar> {
        let end = rest.firstIndex { $0 == "*" || $0 == "+" } ?? rest.endIndex
        defer { rest = rest[end...] }
        return rest[..<end]
    }

    /// Takes a weight; the `+` of an exponent (`1e+3`) belongs to it.
    private static func takeWeight(
        _ rest: inout ArraySlice<Unicode.Scalar>
    ) -> ArraySlice<Unicode.Scalar> {
        let whole = rest
        let mantissa = take(&rest)
        guard mantissa.last == "e" || mantissa.last == "E", rest.first == "+",
            rest.dropFirst().first?.properties.generalCategory == .decimalNumber
        else { return mantissa }
        rest.removeFirst()
        _ = take(&rest)
        return whole[..<rest.startIndex]
    }

    private static func weight(
        _ text: ArraySlice<Unicode.Scalar>, of specification: String
    ) throws -> Double {
        let stripped = text.stripped()
        guard let weight = DecimalText.number(stripped) else {
            throw KokoroError.voice(
                "voice \(quoted(specification)): \(quoted(stripped)) is not a weight")
        }
        guard weight.isFinite, weight > 0 else {
            throw KokoroError.voice(
                "voice \(quoted(specification)): a weight must be above 0, found \(stripped.text)")
        }
        return weight
    }
}

/// Numbers as Python's `float` reads them.
enum DecimalText {
    private static let words: [String: Double] = [
        "inf": .infinity, "infinity": .infinity, "nan": .nan,
    ]

    /// The number that the whole text says, nil if it says none. Decimal digits of any script and
    /// single underscores between digits are allowed, hexadecimal is not.
    static func number(_ text: some Collection<Unicode.Scalar>) -> Double? {
        guard let plain = withoutUnderscores(text.map(ascii)) else { return nil }
        var body = plain[...]
        let sign: Double = body.first == "-" ? -1 : 1
        if body.first == "-" || body.first == "+" { body.removeFirst() }
        if let word = words[body.text.lowercased()] { return sign * word }
        return isDecimal(body) ? Double(plain.text) : nil
    }

    /// A decimal digit of any script as ASCII, anything else as it is.
    private static func ascii(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        guard scalar.properties.generalCategory == .decimalNumber,
            let value = scalar.properties.numericValue
        else { return scalar }
        return Unicode.Scalar(UInt8(ascii: "0") + UInt8(value))
    }

    private static func withoutUnderscores(_ text: CodePoints) -> CodePoints? {
        for place in text.indices where text[place] == "_" {
            guard place > 0, place + 1 < text.count, isDigit(text[place - 1]),
                isDigit(text[place + 1])
            else { return nil }
        }
        return text.filter { $0 != "_" }
    }

    /// Whether it is digits with at most one point and an exponent.
    private static func isDecimal(_ text: ArraySlice<Unicode.Scalar>) -> Bool {
        let parts = text.split(
            maxSplits: 1, omittingEmptySubsequences: false,
            whereSeparator: { $0 == "e" || $0 == "E" })
        let mantissa = parts[0].split(
            maxSplits: 1, omittingEmptySubsequences: false, whereSeparator: { $0 == "." })
        guard mantissa.joined().allSatisfy(isDigit), mantissa.contains(where: { !$0.isEmpty })
        else {
            return false
        }
        guard parts.count == 2 else { return true }
        let signed = parts[1].first == "-" || parts[1].first == "+"
        let exponent = signed ? parts[1].dropFirst() : parts[1]
        return !exponent.isEmpty && exponent.allSatisfy(isDigit)
    }

    private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { ("0"..."9").contains(scalar) }
}
