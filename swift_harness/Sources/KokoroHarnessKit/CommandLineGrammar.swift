import Foundation
import KokoroBundle

/// An option of a command.
public struct CommandOption: Sendable {
    /// As it is typed, such as `--speed`.
    public let name: String
    /// What its value is, such as `FILE`; nil for a switch, which takes none.
    public let value: String?
    /// What it is for.
    public let help: String
    /// Whether it may be given more than once.
    public let isRepeatable: Bool

    init(_ name: String, _ value: String? = nil, help: String, isRepeatable: Bool = false) {
        self.name = name
        self.value = value
        self.help = help
        self.isRepeatable = isRepeatable
    }
}

/// What may be typed behind a command's name.
public struct CommandGrammar: Sendable {
    /// Name of the command.
    public let name: String
    /// What the command does, in a sentence.
    public let summary: String
    /// Names of the values without an option, all needed.
    public let positionals: [String]
    /// The options.
    public let options: [CommandOption]

    /// Reads what was typed.
    ///
    /// - Parameter words: behind the command's name.
    /// - Returns: the values.
    /// - Throws: `KokoroError.argument` for an unknown option, a value too few or too many.
    public func parse(_ words: [String]) throws -> CommandArguments {
        var given = CommandArguments(positionals: [], values: [:])
        var rest = words[...]
        var optionsEnded = false
        while let word = rest.popFirst() {
            if optionsEnded || !word.hasPrefix("-") || word == "-" {
                given.positionals.append(word)
            } else if word == "--" {
                optionsEnded = true
            } else {
                try take(word, &rest, into: &given)
            }
        }
        guard given.positionals.count == positionals.count else {
            let wanted = positionals.isEmpty ? "none" : positionals.joined(separator: " ")
            throw usage(
                "expected \(wanted), found \(given.positionals.count) values: "
                    + given.positionals.joined(separator: " "))
        }
        return given
    }

    /// What `--help` shows.
    public var help: String {
        let values = positionals.map { " \($0)" }.joined()
        let width = options.map { Self.title($0).count }.max() ?? 0
        let rows = options.map { option in
            let title = Self.title(option)
            let gap = String(repeating: " ", count: width - title.count + 2)
            return "  \(title)\(gap)\(option.help)"
        }
        return (["kokoro-harness \(name)\(values) [options]", "", summary, ""] + rows)
            .joined(separator: "\n")
    }

    private func take(
        _ word: String, _ rest: inout ArraySlice<String>, into given: inout CommandArguments
    ) throws {
        let halves = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(halves[0])
        guard let option = options.first(where: { $0.name == name }) else {
            throw usage("unknown option '\(name)'; \(nearest(name, of: options.map(\.name)))")
        }
        if given.values[name] != nil && !option.isRepeatable {
            throw usage("\(name) is given twice")
        }
        let attached = halves.count == 2 ? String(halves[1]) : nil
        guard let kind = option.value else {
            guard attached == nil else { throw usage("\(name) takes no value") }
            given.values[name] = [""]
            return
        }
        guard let value = attached ?? rest.popFirst() else {
            throw usage("\(name) takes a value, \(kind)")
        }
        given.values[name, default: []].append(value)
    }

    private func usage(_ problem: String) -> KokoroError {
        .argument("\(problem). See kokoro-harness \(name) --help")
    }

    private static func title(_ option: CommandOption) -> String {
        option.value.map { "\(option.name) \($0)" } ?? option.name
    }
}

/// What was typed behind a command's name, by type.
public struct CommandArguments: Sendable {
    var positionals: [String]
    var values: [String: [String]]

    /// Whether an option was given.
    func has(_ name: String) -> Bool { values[name] != nil }

    /// Every value of an option.
    func texts(_ name: String) -> [String] { values[name] ?? [] }

    /// The value of an option, nil if it was not given.
    func text(_ name: String) -> String? { values[name]?.first }

    /// The value of an option that must be given.
    ///
    /// - Throws: `KokoroError.argument` if it was not.
    func needed(_ name: String) throws -> String {
        guard let text = text(name) else { throw KokoroError.argument("\(name) is missing") }
        return text
    }

    /// A path.
    func url(_ name: String) -> URL? { text(name).map { URL(fileURLWithPath: $0) } }

    /// A finite number.
    ///
    /// - Throws: `KokoroError.argument` for anything else.
    func number(_ name: String) throws -> Double? {
        try text(name).map { text in
            guard let number = Double(text), number.isFinite else {
                throw KokoroError.argument("\(name) takes a number, found \(quoted(text))")
            }
            return number
        }
    }

    /// A whole number above 0.
    ///
    /// - Throws: `KokoroError.argument` for anything else.
    func count(_ name: String) throws -> Int? {
        try text(name).map { text in
            guard let count = Int(text), count > 0 else {
                throw KokoroError.argument(
                    "\(name) takes a whole number above 0, found \(quoted(text))")
            }
            return count
        }
    }

    /// Values of which each is one of those that are known.
    ///
    /// - Throws: `KokoroError.argument` for another, with the nearest.
    func choices(_ name: String, of known: [String]) throws -> [String] {
        for text in texts(name) where !known.contains(text) {
            throw KokoroError.argument(
                "\(name) does not know \(quoted(text)); \(nearest(text, of: known))")
        }
        return texts(name)
    }
}
