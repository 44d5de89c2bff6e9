import Foundation
import KokoroBundle

/// A value of a golden case: plain JSON, or an array in base64.
public indirect enum GoldenValue: Sendable {
    /// `null`.
    case null
    /// A text.
    case text(String)
    /// A number.
    case number(Double)
    /// `true` or `false`.
    case bool(Bool)
    /// `{"f32le": ...}`.
    case floats([Float])
    /// `{"i32le": ...}`.
    case integers([Int32])
    /// `{"base64": ...}`.
    case bytes(Data)
    /// A list.
    case list([GoldenValue])
    /// A table, whose order does not count.
    case fields(ExactTable<GoldenValue>)

    /// A table of these names and values.
    public static func table(_ pairs: KeyValuePairs<String, GoldenValue>) -> GoldenValue {
        var fields = ExactTable<GoldenValue>()
        for (name, value) in pairs { fields[name] = value }
        return .fields(fields)
    }

    init(_ json: JSONValue) throws {
        switch json {
        case .null: self = .null
        case .bool(let bool): self = .bool(bool)
        case .integer(let digits): self = .number(Double(digits) ?? .nan)
        case .double(let double): self = .number(double)
        case .string(let text): self = .text(text)
        case .array(let items): self = .list(try items.map(GoldenValue.init))
        case .object(let table): self = try Self.decoded(table)
        }
    }

    private static func decoded(_ table: ExactTable<JSONValue>) throws -> GoldenValue {
        if table.count == 1, let (name, value) = table.entries.first,
            case .string(let text) = value,
            ["f32le", "i32le", "base64"].contains(name)
        {
            guard let data = Data(base64Encoded: text) else {
                throw GoldenFailure(reason: "'\(name)' is not base64")
            }
            let floats = LittleEndian.floats(data)
            if name == "f32le" { return .floats(floats) }
            if name == "i32le" {
                return .integers(floats.map { Int32(bitPattern: $0.bitPattern) })
            }
            return .bytes(data)
        }
        var fields = ExactTable<GoldenValue>()
        for (name, value) in table.entries { fields[name] = try GoldenValue(value) }
        return .fields(fields)
    }

    /// What differs from an expected value; nil if nothing does by more than `tolerance`, which 0
    /// makes bit for bit.
    func difference(from expected: GoldenValue, tolerance: Double) -> String? {
        switch (self, expected) {
        case (.null, .null): return nil
        case (.bool(let one), .bool(let other)) where one == other: return nil
        case (.text(let one), .text(let other)) where one.utf8.elementsEqual(other.utf8): return nil
        case (.number(let one), .number(let other))
        where one == other || abs(one - other) <= tolerance:
            return nil
        case (.integers(let one), .integers(let other)) where one == other: return nil
        case (.bytes(let one), .bytes(let other)) where one == other: return nil
        case (.floats(let one), .floats(let other)) where one.count == other.count:
            return zip(one, other).enumerated().first { _, pair in
                pair.0.bitPattern != pair.1.bitPattern
                    && !(abs(Double(pair.0) - Double(pair.1)) <= tolerance && tolerance > 0)
            }.map { "value \($0): \($1.0) for \($1.1)" }
        case (.list(let one), .list(let other)) where one.count == other.count:
            return zip(one, other).lazy.compactMap {
                $0.difference(from: $1, tolerance: tolerance)
            }.first
        case (.fields(let one), .fields(let other)) where one.count == other.count:
            return other.entries.lazy.compactMap { name, expected in
                (one[name] ?? .null).difference(from: expected, tolerance: tolerance).map {
                    "\(name): \($0)"
                }
            }.first
        default: return "\(self) for \(expected)"
        }
    }
}
