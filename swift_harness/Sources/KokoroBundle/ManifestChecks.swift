extension Manifest {
    /// The first contradiction between the parts, nil where there is none.
    func firstProblem() -> String? {
        (pathProblems() + bucketProblems() + nameProblems()).first
    }

    private func pathProblems() -> [String] {
        var problems: [String] = []
        if files[Self.fileName] != nil {
            problems.append("'files' lists \(Self.fileName), which cannot hold its own hash")
        }
        let used = [vocabulary] + voices.map(\.file) + [sample?.file].compactMap { $0 }
        for path in used where files[path] == nil {
            problems.append("'\(path)' is used but is not among 'files'")
        }
        for package in packages {
            let folder = Array("\(package.file)/".utf8)
            if !files.names.contains(where: { $0.utf8.starts(with: folder) }) {
                problems.append("package '\(package.file)' has no file among 'files'")
            }
        }
        return problems
    }

    private func bucketProblems() -> [String] {
        let used = packages.flatMap(\.functions).map(\.bucket)
        let empty = (buckets + used).filter { $0.tokens == nil && $0.frames == nil }
        let unlisted = used.filter { !buckets.contains($0) }
        return empty.map { _ in "a bucket has neither tokens nor frames" }
            + unlisted.map { bucket in
                "a function has the bucket \(shown(bucket.tokens)) x \(shown(bucket.frames)) "
                    + "(tokens x frames), which is not among 'buckets'"
            }
    }

    private func shown(_ axis: Int?) -> String { axis.map(String.init) ?? "None" }

    private func nameProblems() -> [String] {
        var groups = [
            ("package", packages.map(\.file)),
            ("voice", voices.map(\.name)),
            ("leg", parity.legs.map(\.name)),
        ]
        for package in packages {
            groups.append(("function of \(package.file)", package.functions.map(\.name)))
            for function in package.functions {
                let tensors = function.inputs + function.outputs
                groups.append(("tensor of \(package.file):\(function.name)", tensors.map(\.name)))
            }
        }
        return groups.flatMap { kind, names in
            repeated(names).map { "the \(kind) '\($0)' occurs twice" }
        }
    }

    /// Names that occur more than once, sorted by code points.
    private func repeated(_ names: [String]) -> [String] {
        var counts = ExactTable<Int>()
        for name in names { counts[name] = (counts[name] ?? 0) + 1 }
        return counts.entries.filter { $0.value > 1 }.map(\.name)
            .sorted { $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars) }
    }
}
