#if canImport(CoreML)
    import CoreML
    import Foundation
    import KokoroBundle

    /// The `.mlmodelc` of each package, compiled once for all who ask at the same time.
    actor CompiledModels {
        private let bundle: BundleFolder
        private let precompiled: URL
        private let cache: URL
        private var tasks: [String: Task<URL, any Error>] = [:]

        init(bundle: BundleFolder, precompiled: URL, cache: URL) {
            self.bundle = bundle
            self.precompiled = precompiled
            self.cache = cache
        }

        /// The compiled package.
        ///
        /// - Throws: `KokoroError.package` if it cannot be compiled or kept; another call tries
        ///   again then.
        func url(of package: Manifest.Package) async throws -> URL {
            let task = tasks[package.file] ?? Task { try await find(package) }
            tasks[package.file] = task
            do {
                return try await task.value
            } catch {
                if tasks[package.file] == task { tasks[package.file] = nil }
                throw error
            }
        }

        private func find(_ package: Manifest.Package) async throws -> URL {
            let name = Self.compiledName(package.file)
            let given = precompiled.appendingPathComponent(name)
            if FileManager.default.fileExists(atPath: given.path) { return given }
            let folder = cache.appendingPathComponent(Self.digest(package, bundle.manifest))
            let kept = folder.appendingPathComponent((name as NSString).lastPathComponent)
            if FileManager.default.fileExists(atPath: kept.path) { return kept }
            return try await compile(package.file, to: kept)
        }

        /// Compiles beside the final place and moves it when it is whole.
        private func compile(_ file: String, to kept: URL) async throws -> URL {
            let source = bundle.url.appendingPathComponent(file)
            let made = try await mapped("compiling '\(file)'") {
                try await MLModel.compileModel(at: source)
            }
            return try await mapped("keeping '\(file)' compiled in '\(kept.path)'") {
                let folder = kept.deletingLastPathComponent()
                let files = FileManager.default
                try files.createDirectory(at: folder, withIntermediateDirectories: true)
                let partial = folder.appendingPathComponent(".\(UUID().uuidString).partial")
                try files.moveItem(at: made, to: partial)
                do {
                    try files.moveItem(at: partial, to: kept)
                } catch {
                    try files.removeItem(at: partial)
                    // another process may have been quicker
                    guard files.fileExists(atPath: kept.path) else { throw error }
                }
                return kept
            }
        }

        /// The name of a package with another extension.
        private static func compiledName(_ file: String) -> String {
            (file as NSString).deletingPathExtension + ".mlmodelc"
        }

        /// SHA-256 of a package: of its files' paths and digests, sorted by code points.
        static func digest(_ package: Manifest.Package, _ manifest: Manifest) -> String {
            let folder = Array("\(package.file)/".utf8)
            let lines = manifest.files.entries
                .filter { $0.name.utf8.starts(with: folder) }
                .map { "\($0.value.sha256) \($0.name)\n" }
                .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            return ContentDigest.of(Data(lines.joined().utf8))
        }
    }

    /// Makes what Core ML and the file system throw a `KokoroError.package`.
    func mapped<Value>(
        _ what: String, _ body: () async throws -> Value
    ) async throws -> Value {
        do {
            return try await body()
        } catch let error as KokoroError {
            throw error
        } catch let error as CancellationError {
            throw error
        } catch {
            throw KokoroError.package("Core ML failed at \(what): \(error.localizedDescription)")
        }
    }
#endif
