/// A table by name that keeps its order and tells names apart by their code points.
///
/// A `Dictionary` of strings takes canonically equivalent names for one, JSON and file systems
/// need not.
public struct ExactTable<Value: Sendable>: Sendable {
    /// Names and values in the order they were written.
    public private(set) var entries: [(name: String, value: Value)] = []
    private var places: [[UInt8]: Int] = [:]

    /// An empty table.
    public init() {}

    /// The names, in the order they were written.
    public var names: [String] { entries.map(\.name) }

    /// How many entries it has.
    public var count: Int { entries.count }

    /// The value of a name, nil where there is none. Setting one that exists keeps its place;
    /// setting nil is no removal and does nothing.
    public subscript(name: String) -> Value? {
        get { places[Array(name.utf8)].map { entries[$0].value } }
        set {
            guard let newValue else { return }
            if let place = places[Array(name.utf8)] {
                entries[place].value = newValue
            } else {
                places[Array(name.utf8)] = entries.count
                entries.append((name, newValue))
            }
        }
    }
}

extension ExactTable: Equatable where Value: Equatable {
    /// Whether both hold the same values under the same names, in whatever order.
    public static func == (one: Self, other: Self) -> Bool {
        one.count == other.count && one.entries.allSatisfy { other[$0.name] == $0.value }
    }
}

/// Whether two texts are the same code points.
package func same(_ one: String, _ other: String) -> Bool { one.utf8.elementsEqual(other.utf8) }
