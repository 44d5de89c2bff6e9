import KokoroBundle

extension GoldenValue {
    /// Whole numbers beyond this stand as texts, because a float64 does not hold them all.
    private static let largestExact = 0x1p53

    /// What was read of a manifest, under the names of the file.
    init(reading manifest: Manifest) throws {
        guard case .fields(var fields) = try GoldenValue(record: manifest) else {
            throw GoldenFailure(reason: "a manifest is not a table")
        }
        fields["schema_version"] = .number(Double(Manifest.schemaVersion))
        self = .fields(fields)
    }

    /// Any value of a manifest, by its properties, so that none can be forgotten.
    private init(record value: Any) throws {
        switch value {
        case let text as String: self = .text(text)
        case let number as Int: self = Self.integer(number)
        case let number as Double: self = .number(number)
        case let table as ExactTable<JSONValue>: self = .fields(try table.mapped(Self.content))
        case let table as ExactTable<String>: self = .fields(table.mapped(GoldenValue.text))
        case let table as ExactTable<Double>: self = .fields(table.mapped(GoldenValue.number))
        case let table as ExactTable<Manifest.File>:
            self = .fields(try table.mapped { try GoldenValue(record: $0) })
        case let choice as any RawRepresentable:
            self = try GoldenValue(record: choice.rawValue)
        default: self = try Self.reflected(Mirror(reflecting: value))
        }
    }

    private static func reflected(_ mirror: Mirror) throws -> GoldenValue {
        let values = mirror.children.map(\.value)
        switch mirror.displayStyle {
        case .optional: return try values.first.map { try GoldenValue(record: $0) } ?? .null
        case .collection: return .list(try values.map { try GoldenValue(record: $0) })
        case .struct:
            var fields = ExactTable<GoldenValue>()
            for (label, value) in mirror.children {
                fields[name(of: label ?? "")] = try GoldenValue(record: value)
            }
            return .fields(fields)
        default: throw GoldenFailure(reason: "a manifest holds a value of an unknown kind")
        }
    }

    /// A property's name in the file: `maxPhonemes` is `max_phonemes`.
    private static func name(of property: String) -> String {
        if property == "type" { return "dtype" }
        return property.map { $0.isUppercase ? "_\($0.lowercased())" : String($0) }.joined()
    }

    private static func integer(_ number: Int) -> GoldenValue {
        number.magnitude > UInt(largestExact) ? .text(String(number)) : .number(Double(number))
    }

    /// A value of no fixed type.
    private static func content(_ json: JSONValue) throws -> GoldenValue {
        switch json {
        case .integer(let digits): return Int(digits).map(integer) ?? .text(digits)
        case .double(let number) where !number.isFinite:
            return .text(number < 0 ? "-inf" : "inf")
        case .array(let items): return .list(try items.map(content))
        case .object(let table): return .fields(try table.mapped(content))
        default: return try GoldenValue(json)
        }
    }
}

extension ExactTable {
    fileprivate func mapped<Other>(
        _ change: (Value) throws -> Other
    ) rethrows -> ExactTable<Other> {
        var table = ExactTable<Other>()
        for (name, value) in entries { table[name] = try change(value) }
        return table
    }
}
