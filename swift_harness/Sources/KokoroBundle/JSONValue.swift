import Foundation

/// A JSON document as a tree that keeps apart what Python keeps apart: integers and floats, and
/// names by their code points. Of a name that occurs twice in an object, the last value counts.
public enum JSONValue: Sendable, Equatable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number without a point or exponent, as its digits, since it may have any size.
    case integer(String)
    /// A number with a point or exponent; infinite if it is too large.
    case double(Double)
    /// A text.
    case string(String)
    /// A list.
    case array([JSONValue])
    /// A table.
    case object(ExactTable<JSONValue>)

    /// Lists and tables may be this deep in one another, in Python (`strict_json.py`) as here.
    static let deepest = 100

    /// Reads a whole document, as strictly as Python's `json` with NaN and infinity refused.
    ///
    /// - Throws: `JSONValue.Malformed`, also for nesting deeper than 100, and for half of a
    ///   surrogate pair, which is no character.
    public init(parsing data: Data) throws {
        var scalars: [Unicode.Scalar] = []
        scalars.reserveCapacity(data.count)
        let failed = transcode(
            data.makeIterator(), from: UTF8.self, to: UTF32.self, stoppingOnError: true,
            into: { unit in Unicode.Scalar(unit).map { scalars.append($0) } })
        guard !failed else { throw Malformed(reason: "not UTF-8", offset: scalars.count) }
        var parser = JSONParser(text: scalars)
        self = try parser.document()
    }

    /// Why a text is no JSON.
    public struct Malformed: LocalizedError, Sendable, Equatable {
        /// What is wrong.
        public let reason: String
        /// Where, in code points from the beginning.
        public let offset: Int

        /// Reason and place.
        public var errorDescription: String? { "\(reason) at character \(offset)" }
    }
}

private struct JSONParser {
    /// Python refuses longer integers.
    private static let mostDigits = 4300
    private static let escapes: [Unicode.Scalar: Unicode.Scalar] = [
        "\"": "\"", "\\": "\\", "/": "/", "b": "\u{8}", "f": "\u{C}", "n": "\n", "r": "\r",
        "t": "\t",
    ]

    let text: [Unicode.Scalar]
    var place = 0
    var depth = 0

    init(text: [Unicode.Scalar]) {
        self.text = text
    }

    mutating func document() throws -> JSONValue {
        let value = try self.value()
        skipSpace()
        guard place == text.count else { throw failure("extra data") }
        return value
    }

    private var next: Unicode.Scalar? { place < text.count ? text[place] : nil }

    private func failure(_ reason: String) -> JSONValue.Malformed {
        JSONValue.Malformed(reason: reason, offset: place)
    }

    private mutating func skipSpace() {
        while let scalar = next, " \t\n\r".unicodeScalars.contains(scalar) { place += 1 }
    }

    private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
        guard next == scalar else { return false }
        place += 1
        return true
    }

    private mutating func value() throws -> JSONValue {
        skipSpace()
        switch next {
        case "{": return try nested { parser in .object(try parser.object()) }
        case "[": return try nested { parser in .array(try parser.array()) }
        case "\"": return .string(try string())
        case "t": return try word("true", .bool(true))
        case "f": return try word("false", .bool(false))
        case "n": return try word("null", .null)
        default: return try number()
        }
    }

    private mutating func nested(_ read: (inout Self) throws -> JSONValue) throws -> JSONValue {
        depth += 1
        guard depth <= JSONValue.deepest else { throw failure("nested too deeply") }
        place += 1
        let value = try read(&self)
        depth -= 1
        return value
    }

    private mutating func word(_ word: String, _ value: JSONValue) throws -> JSONValue {
        guard text[place...].starts(with: word.unicodeScalars) else {
            throw failure("expected a value")
        }
        place += word.unicodeScalars.count
        return value
    }

    private mutating func object() throws -> ExactTable<JSONValue> {
        var table = ExactTable<JSONValue>()
        skipSpace()
        if take("}") { return table }
        repeat {
            skipSpace()
            guard next == "\"" else { throw failure("expected a name in quotation marks") }
            let name = try string()
            skipSpace()
            guard take(":") else { throw failure("expected ':'") }
            table[name] = try value()
            skipSpace()
        } while take(",")
        guard take("}") else { throw failure("expected ',' or '}'") }
        return table
    }

    private mutating func array() throws -> [JSONValue] {
        var items: [JSONValue] = []
        skipSpace()
        if take("]") { return items }
        repeat {
            items.append(try value())
            skipSpace()
        } while take(",")
        guard take("]") else { throw failure("expected ',' or ']'") }
        return items
    }

    private mutating func string() throws -> String {
        place += 1
        var content = String.UnicodeScalarView()
        while let scalar = next {
            place += 1
            switch scalar {
            case "\"": return String(content)
            case "\\": content.append(try escape())
            case "\u{0}"..."\u{1F}": throw failure("a control character in a text")
            default: content.append(scalar)
            }
        }
        throw failure("a text without its end")
    }

    private mutating func escape() throws -> Unicode.Scalar {
        guard let scalar = next else { throw failure("a text without its end") }
        place += 1
        if let plain = Self.escapes[scalar] { return plain }
        guard scalar == "u" else { throw failure("an unknown escape") }
        let first = try codeUnit()
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard (0xD800..<0xDC00).contains(first), take("\\"), take("u") else {
            throw failure("half of a surrogate pair")
        }
        let second = try codeUnit()
        guard (0xDC00..<0xE000).contains(second),
            let scalar = Unicode.Scalar(
                0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        else { throw failure("half of a surrogate pair") }
        return scalar
    }

    /// Four hexadecimal digits.
    private mutating func codeUnit() throws -> UInt32 {
        let digits = text[place...].prefix(4)
        guard digits.count == 4, digits.allSatisfy({ $0.isASCII && $0.properties.isHexDigit }),
            let unit = UInt32(digits.text, radix: 16)
        else { throw failure("expected four hexadecimal digits") }
        place += 4
        return unit
    }

    private mutating func number() throws -> JSONValue {
        let start = place
        _ = take("-")
        let whole = digits()
        guard !whole.isEmpty else {
            place = start
            throw failure("expected a value")
        }
        if whole.first == "0" { place -= whole.count - 1 }
        let isFraction = skipFraction()
        let isInteger = !skipExponent() && !isFraction
        let literal = text[start..<place].text
        guard isInteger else { return .double(Double(literal) ?? .nan) }
        guard whole.count <= Self.mostDigits else { throw failure("too many digits") }
        return .integer(literal == "-0" ? "0" : literal)
    }

    private mutating func digits() -> ArraySlice<Unicode.Scalar> {
        let found = text[place...].prefix { ("0"..."9").contains($0) }
        place += found.count
        return found
    }

    /// A point with digits behind it; without them the number ends in front of the point.
    private mutating func skipFraction() -> Bool {
        let start = place
        if take("."), !digits().isEmpty { return true }
        place = start
        return false
    }

    private mutating func skipExponent() -> Bool {
        let start = place
        if take("e") || take("E") {
            if !take("-") { _ = take("+") }
            if !digits().isEmpty { return true }
        }
        place = start
        return false
    }
}
